"""UniPELT: a prefix, LoRA and an adapter, each with a trainable gate (Mao et al. 2021, arXiv:2110.07577).

    K, V ← [G_P P_K ; K], [G_P P_V ; V]        a prefix of l tokens before the keys and values of every attention
    q ← W_q x + G_q (α / r) B_q A_q x        and v likewise: LoRA, with α = r
    y ← y + G_A(h) (U relu(D h + b_D) + b_U)        a Pfeiffer adapter after every feed-forward

G is the mean over the positions that are not padding of sigmoid(w · h + b), where h is the input of the layer (for the prefix), of
the linear map (for LoRA), or of the adapter; every layer, and there each of q and v, has a w and a b of its own. In a decoder each
position has a gate of its own. A prefix cannot have that: all positions of a layer attend to the same keys and values, so that
their one gate would depend on later positions. So a decoder refuses the prefix's gate; `gated=("lora", "adapter")` is without it.

LoRA's own factor is 1 (α = r): in the authors' code the gate replaces LoRA's factor, so that their α = 16 has no effect.
AdapterHub's UniPELT has α = r too.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

from graftwork.errors import ConfigError
from graftwork.methods.layers.contract import AdapterConfig
from graftwork.methods.mam import prefix
from graftwork.methods.peft import Peft
from graftwork.methods.pfeiffer import Pfeiffer
from graftwork.methods.registry import register
from graftwork.methods.union import UnionBase
from graftwork.options import within

PARTS = ("prefix", "lora", "adapter")


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class UniPELT(UnionBase):
    """A prefix of 10 tokens, LoRA of rank 8 and a Pfeiffer adapter of reduction 16, each with a gate a layer.

    The prefix and LoRA are peft's.

    Attributes:
        prefix_tokens: Number of the prefix's tokens, l; 0 for no prefix.
        prefix_size: Width of the network that makes the prefix; ``None`` for a prefix whose values are the weights.
        lora_rank: Rank r of LoRA; 0 for no LoRA.
        lora_alpha: LoRA's α; ``None`` for r, as the authors' code computes it.
        lora_dropout: Dropout on LoRA's input, while the adapter is trained.
        lora_targets: Names of the linear maps with LoRA; by default those that peft knows for the model, in most the queries
            and values.
        reduction_factor: Width of the model over that of the adapter.
        gated: The parts with a gate, of ``"prefix"``, ``"lora"`` and ``"adapter"``.

    Raises:
        ConfigError: If a value is refused, or peft is not installed.

    Example:
        >>> adapters.add("c", gw.UniPELT(prefix_tokens=4, prefix_size=None, lora_rank=2, reduction_factor=8))
    """

    method: ClassVar[str] = "unipelt"

    prefix_tokens: int = 10
    prefix_size: int | None = 512
    lora_rank: int = 8
    lora_alpha: float | None = None
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] | None = None
    reduction_factor: float = 16
    gated: tuple[str, ...] = PARTS

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "prefix_tokens", 0, whole=True)
        if self.prefix_size is not None:
            within(self, "prefix_size", 1, whole=True)
        within(self, "lora_rank", 0, whole=True)
        if self.lora_alpha is not None:
            within(self, "lora_alpha", 0.0)
        within(self, "lora_dropout", 0.0, 0.999)
        for field in ("lora_targets", "gated"):
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(self, field, (value,) if isinstance(value, str) else tuple(value))
        if self.gated is None or any(part not in PARTS for part in self.gated):
            raise ConfigError(f"UniPELT: gated is {self.gated!r}; name some of {', '.join(map(repr, PARTS))}")
        assert self.made_of  # the parts check their own options

    @functools.cached_property
    def made_of(self) -> tuple[AdapterConfig, ...]:
        parts: list[AdapterConfig] = []
        if self.prefix_tokens:
            parts.append(prefix(self.prefix_tokens, self.prefix_size, gate="prefix" in self.gated))
        if self.lora_rank:
            lora: dict[str, Any] = {
                "peft_type": "LORA",
                "r": int(self.lora_rank),
                "lora_alpha": self.lora_rank if self.lora_alpha is None else self.lora_alpha,
                "lora_dropout": self.lora_dropout,
                "target_modules": None if self.lora_targets is None else list(self.lora_targets),
            }
            parts.append(Peft(peft=lora, gate="lora" in self.gated))
        gate = "adapter" in self.gated
        parts.append(Pfeiffer(reduction_factor=self.reduction_factor, gate=gate, norms=self.norms, dtype=self.dtype))
        return tuple(parts)
