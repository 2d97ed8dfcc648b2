"""The bottleneck adapter in its general form, of which the published ones are presets.

    A(h) = scale · (U φ(D h + b_D) + b_U + S(h))

with ``D (r, d)``, ``U (d, r)`` and, where asked for, a skip ``S`` past the non-linearity (Houlsby et al. 2019,
arXiv:1902.00751; Pfeiffer et al. 2020, arXiv:2005.00247; He et al. 2021, arXiv:2110.04366).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from torch import nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.bottleneck import SKIPS, BottleneckModule
from graftwork.methods.layers.bottleneck_config import BottleneckBase
from graftwork.methods.layers.contract import AdapterModule, Place
from graftwork.methods.registry import register
from graftwork.options import flags, is_number, one_of, within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Bottleneck(BottleneckBase):
    """A bottleneck adapter, every part of it an option.

    Attributes:
        sites: Kinds of sites it stands at. ``"attention"`` includes mixers (state space, Fourier, pooling).
        reads: ``"output"`` of the branch, ``"normed"`` (the stream behind the addition and the post-norm, the plain
            ``"stream"`` in a pre-norm model), ``"residual"`` (the stream before the addition), ``"input"`` of the
            branch, or ``"layer_input"``.
        writes: ``"branch"`` (y ← y + δ, under the model's norm) or ``"stream"`` (after it).
        reduction_factor: Width of the model over that of the bottleneck; a number, or a mapping from layer to number
            with ``"default"`` for the others. Layers are numbers within their stack, or ``"decoder.block.3"``.
        bottleneck_size: Width ``r`` itself, in the same forms; give one of the two.
        activation: The non-linearity φ, one of `graftwork.methods.layers.activations.ACTIVATIONS`.
        init: ``"houlsby"`` (truncated normal), ``"normal"``, ``"xavier"``, ``"parallel"`` (U = 0), or ``"zero"`` (the
            method's own D, and everything else so that the adapter adds exactly zero at the start).
        init_std: Standard deviation of the two normal starts.
        up_bias: Whether b_U is there.
        scale: A constant, ``"learned"`` (one number, from 1) or ``"channel"`` (one for each dimension, from 1).
        skip: ``None`` (in a recipe ``"none"``) or one of ``"scalar"``, ``"diagonal"``, ``"low_rank"``, ``"dense"``: a linear
            path past the non-linearity. It starts at zero.
        skip_rank: Rank of the low-rank skip.
        norm_before: A layer norm of the adapter's own in front.
        norm_after: A layer norm of the adapter's own behind the up-projection.
        dropout: On the features, while the adapter learns.
        stochastic_depth: Probability of leaving a row's addition out, while the adapter learns.
        gate: A learned gate a layer (Mao et al. 2021, arXiv:2110.07577): the mean over unpadded positions of
            sigmoid(w · h), each position for itself in decoders.
        leave_out: Layers without the adapter (AdapterDrop, Rücklé et al. 2021, arXiv:2010.11918).

    Raises:
        ConfigError: If a value is refused.
    """

    method: ClassVar[str] = "bottleneck"

    scale: float | str = 1.0
    skip: str | None = None
    skip_rank: int = 4
    norm_before: bool = False
    norm_after: bool = False
    stochastic_depth: float = 0.0
    gate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip == "none":  # TOML has no null
            object.__setattr__(self, "skip", None)
        one_of(self, "skip", (None, *SKIPS))
        flags(self, "norm_before", "norm_after", "gate")
        within(self, "skip_rank", 1, whole=True)
        within(self, "stochastic_depth", 0.0, 0.999)
        if not is_number(self.scale) and self.scale not in ("learned", "channel"):
            raise ConfigError(f"{type(self).__name__}: scale is {self.scale!r}; give a number, 'learned' or 'channel'")

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        return BottleneckModule(**self.module_options(place)) if self.stands_at(place) else None

    def module_options(self, place: Place) -> dict[str, Any]:
        """What the module at a place is made with."""
        return {
            "reads": self.reads,
            "writes": self.writes,
            "width": place.site.width,
            "size": self.size_at(place),
            "activation": self.activation,
            "init": self.init,
            "first_init": self.default_init,
            "init_std": self.init_std,
            "up_bias": self.up_bias,
            "scale": self.scale,
            "skip": self.skip,
            "skip_rank": self.skip_rank,
            "norm_before": self.norm_before,
            "norm_after": self.norm_after,
            "dropout": self.dropout,
            "stochastic_depth": self.stochastic_depth,
            "gate": self.gate,
            "causal": place.causal,
            "dtype": self.torch_dtype,
        }
