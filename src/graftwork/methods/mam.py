"""The mix-and-match adapter (He et al. 2021, *Towards a unified view*, arXiv:2110.04366).

    K, V ← [P_K ; K], [P_V ; V]        P = W_2 tanh(W_1 E): a prefix before the keys and values, E of l tokens
    y ← y + s · (U relu(D h + b_D) + b_U)        a scaled adapter parallel to every feed-forward

The sizes are those of the paper for summarisation; on GLUE it has `prefix_tokens=16, bottleneck_size=16, scale=2`. The prefix is
made by peft's encoder: one for an encoder or a decoder; in an encoder-decoder one each for the encoder, the decoder, and its
cross-attention.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

from graftwork.methods.layers.contract import AdapterConfig
from graftwork.methods.parallel import Parallel
from graftwork.methods.peft import Peft
from graftwork.methods.registry import register
from graftwork.methods.union import UnionBase
from graftwork.options import within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class MAM(UnionBase):
    """A prefix of 30 tokens in every attention, and a scaled parallel adapter of width 512 in every feed-forward.

    Attributes:
        prefix_tokens: Number of the prefix's tokens, l.
        prefix_size: Width of the network that makes the prefix; ``None`` for a prefix whose values are the weights.
        bottleneck_size: Width r of the parallel adapter.
        scale: Factor s of the parallel adapter, or ``"learned"``.
        dropout: Dropout on its features, while the adapter is trained.

    Raises:
        ConfigError: If a value is refused, or peft is not installed.

    Example:
        >>> adapters.add("c", gw.MAM(prefix_tokens=4, prefix_size=None, bottleneck_size=8))
    """

    method: ClassVar[str] = "mam"

    prefix_tokens: int = 30
    prefix_size: int | None = 800
    bottleneck_size: int = 512
    scale: float | str = 4.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "prefix_tokens", 1, whole=True)
        if self.prefix_size is not None:
            within(self, "prefix_size", 1, whole=True)
        assert self.made_of  # the parts check their own options

    @functools.cached_property
    def made_of(self) -> tuple[AdapterConfig, ...]:
        same = {option: getattr(self, option) for option in ("bottleneck_size", "scale", "dropout", "norms", "dtype")}
        return (prefix(self.prefix_tokens, self.prefix_size), Parallel(**same))


def prefix(tokens: int, size: int | None, *, gate: bool = False) -> Peft:
    """A prefix of peft's, made by a network of width ``size`` unless that is ``None``."""
    values: dict[str, Any] = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": int(tokens)}
    if size is not None:
        values |= {"prefix_projection": True, "encoder_hidden_size": int(size)}
    return Peft(peft=values, gate=gate)
