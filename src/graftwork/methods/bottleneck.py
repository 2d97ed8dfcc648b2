"""The bottleneck adapter in its general form, of which the published ones are presets.

    A(h) = scale · (U φ(D h + b_D) + b_U + S(h))

with ``D (r, d)``, ``U (d, r)`` and, as an option, a skip ``S`` past the non-linearity (Houlsby et al. 2019,
arXiv:1902.00751; Pfeiffer et al. 2020, arXiv:2005.00247; He et al. 2021, arXiv:2110.04366).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.affine import normed
from graftwork.methods.layers.bottleneck import BottleneckBase, start_projections
from graftwork.methods.layers.contract import AdapterModule, Context, Place, Segment, cast
from graftwork.methods.layers.gates import gate_values, mean_of_unpadded
from graftwork.methods.layers.layerwise import puts_adapter_at
from graftwork.methods.registry import register
from graftwork.options import flags, is_number, one_of, within

SKIPS = ("scalar", "diagonal", "low_rank", "dense")


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Bottleneck(BottleneckBase):
    """A bottleneck adapter, every part of it an option.

    Sites, reads, widths and initial values are options of `graftwork.methods.layers.bottleneck.BottleneckBase`.

    Attributes:
        scale: A constant, ``"learned"`` (one number, from 1) or ``"channel"`` (one for each dimension, from 1).
        skip: ``None`` (in a recipe ``"none"``) or one of ``"scalar"``, ``"diagonal"``, ``"low_rank"``, ``"dense"``: a linear
            path past the non-linearity. It starts at zero.
        skip_rank: Rank of the low-rank skip.
        norm_before: Whether the adapter has a layer norm of its own before the down-projection.
        norm_after: Whether it has one after the up-projection.
        stochastic_depth: Probability of leaving a row's addition out, while the adapter is trained.
        gate: Whether each layer has a trainable gate (Mao et al. 2021, arXiv:2110.07577): the mean over unpadded positions
            of sigmoid(w · h), each position for itself in decoders.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add("c", gw.Bottleneck(bottleneck_size=4, skip="diagonal"))
        >>> adapters.active = "c"
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
        return BottleneckModule(self, place) if puts_adapter_at(self, place) else None


class BottleneckModule(AdapterModule):
    """``scale · (U φ(D h + b_D) + b_U + S(h))`` at one site.

    The weights are plain parameters and not `nn.Linear` modules, which peft's ``all-linear`` and quantisers would take.
    A subclass whose D and U are made of other weights passes the modules with these as ``projections``, and defines
    `down_weight`, `up_weight` and `_start_projections`.

    Attributes:
        made: Whether D and U are made of other weights, so that a product without them may be cheaper.
    """

    made: ClassVar[bool] = False
    down: Any  # a weight, or the module that makes it
    up: Any

    def __init__(
        self,
        config: Bottleneck,
        place: Place,
        projections: tuple[nn.Module, nn.Module] | None = None,
        shared: nn.Module | None = None,
    ) -> None:
        super().__init__(reads=config.reads, writes=config.writes, shared=shared)
        self.activation, self.dropout = config.activation, config.dropout
        self.stochastic_depth, self.causal = config.stochastic_depth, place.causal
        self.skip_kind = config.skip
        self.has_randomness = config.dropout > 0 or config.stochastic_depth > 0
        dtype, width, size, rank = config.torch_dtype, place.site.width, config.size_at(place), config.skip_rank

        def weight(*shape: int, fill: float = 0.0) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, fill, dtype=dtype))

        self.down, self.up = projections or (weight(size, width), weight(width, size))
        self.down_bias = weight(size) if config.down_bias else None
        self.up_bias = weight(width) if config.up_bias else None
        learned = {"learned": 1, "channel": width}
        self.scale = weight(learned[config.scale], fill=1.0) if isinstance(config.scale, str) else float(config.scale)
        self.norm_before = nn.LayerNorm(width, dtype=dtype) if config.norm_before else None
        self.norm_after = nn.LayerNorm(width, dtype=dtype) if config.norm_after else None
        self.gate = weight(1, width) if config.gate else None
        self.gate_bias = weight(1) if config.gate else None
        self.skip_down = weight(rank, width) if config.skip == "low_rank" else None
        shapes = {"scalar": (1,), "diagonal": (width,), "low_rank": (width, rank), "dense": (width, width)}
        self.skip = weight(*shapes[config.skip]) if config.skip else None
        self._start(config)

    @torch.no_grad()
    def _start(self, config: Bottleneck) -> None:
        """Set the initial values; every bias and every skip starts at zero."""
        self._start_projections(config)
        if self.norm_after is not None and config.init == "zero":
            nn.init.zeros_(self.norm_after.weight)
        if self.skip_down is not None:
            nn.init.kaiming_uniform_(self.skip_down, a=math.sqrt(5))
        if self.gate is not None:
            nn.init.normal_(self.gate, std=0.02)

    def _start_projections(self, config: Bottleneck) -> None:
        """Set the initial values of D and U."""
        start_projections(self.down, self.up, config)

    def down_weight(self) -> Tensor:
        """Return D ``(rank, width)``."""
        return self.down  # type: ignore[return-value]

    def up_weight(self) -> Tensor:
        """Return U ``(width, rank)``."""
        return self.up  # type: ignore[return-value]

    @property
    def banked(self) -> bool:
        return self.norm_after is None and self.skip_kind in (None, "low_rank")

    @property
    def foldable(self) -> bool:
        return self.banked and self.norm_before is None and self.gate is None

    def segments(self) -> tuple[Segment, ...]:
        main = Segment(self.down_weight(), self.down_bias, self.activation)
        return (main,) if self.skip_down is None else (main, Segment(self.skip_down, None, "identity"))

    def _wide_up(self) -> Tensor:
        """The up-projection of all features, those of a low-rank skip included."""
        up = self.up_weight()
        return up if self.skip_down is None else torch.cat([up, self.skip], dim=1)  # type: ignore[list-item]

    def readout(self) -> tuple[Tensor, Tensor | None]:
        up, scale = self._wide_up(), self.scale
        if isinstance(scale, float) and scale == 1.0:
            return up, self.up_bias
        rows = scale if isinstance(scale, float) else scale[:, None]
        return up * rows, None if self.up_bias is None else self.up_bias * scale

    def prepare(self, read: Tensor) -> Tensor:
        return read if self.norm_before is None else normed(self.norm_before, read)

    def perturb(self, features: Tensor) -> Tensor:
        return nn.functional.dropout(features, self.dropout) if self.dropout and self.random else features

    def gain(self, read: Tensor, context: Context) -> Tensor | None:
        gain = None
        if self.gate is not None:
            gain = gate_values(read, self.gate, self.gate_bias)  # type: ignore[arg-type]  # there with the gate
            if not self.causal:
                gain = mean_of_unpadded(gain, context.padding_mask(read))
        if self.stochastic_depth and self.random:
            keep = 1.0 - self.stochastic_depth
            rows = read.new_empty((read.shape[0],) + (1,) * (read.dim() - 1)).bernoulli_(keep) / keep
            gain = rows if gain is None else gain * rows
        return gain

    def project_up(self, features: Tensor) -> Tensor:
        """Return ``U a + b_U`` ``(batch, positions, width)``, before the skip, norm and scale."""
        return nn.functional.linear(features, cast(self._wide_up(), features), cast(self.up_bias, features))

    def forward(self, read: Tensor, context: Context) -> Tensor:
        if self.banked and not self.made:
            return super().forward(read, context)
        delta = self.project_up(self.features(read))
        if self.skip_kind == "dense":
            delta = delta + nn.functional.linear(self.prepare(read), cast(self.skip, read))
        elif self.skip_kind in ("scalar", "diagonal"):
            delta = delta + self.prepare(read) * cast(self.skip, read)
        if self.norm_after is not None:
            delta = normed(self.norm_after, delta)
        delta = delta * (self.scale if isinstance(self.scale, float) else cast(self.scale, delta))
        gain = self.gain(read, context)
        return delta if gain is None else delta * gain.to(delta.dtype)
