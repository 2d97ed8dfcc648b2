"""The module of the bottleneck family: plain parameters, features, and a linear readout."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from graftwork.methods.layers.affine import normed
from graftwork.methods.layers.contract import AdapterModule, Context, Segment, cast
from graftwork.methods.layers.gates import gate_values, mean_of_unpadded

INITS = ("houlsby", "normal", "xavier", "parallel", "zero")
SKIPS = ("scalar", "diagonal", "low_rank", "dense")


class BottleneckModule(AdapterModule):
    """``scale · (U φ(D h + b_D) + b_U + S(h))``; see `graftwork.methods.bottleneck.Bottleneck` for the options.

    The weights are plain parameters and not `nn.Linear` modules, which peft's ``all-linear`` and quantisers would take.
    A subclass whose D and U are made of other weights gives ``projections`` that hold these, and defines `down_weight`,
    `up_weight` and `_start_projections`.

    Attributes:
        made: Whether D and U are made of other weights, so that going around them may be cheaper.
    """

    made: ClassVar[bool] = False
    down: Any  # a weight, or the module that makes it
    up: Any

    def __init__(
        self,
        *,
        reads: str,
        writes: str,
        width: int,
        size: int,
        activation: str,
        init: str,
        first_init: str,
        init_std: float,
        up_bias: bool,
        scale: float | str,
        skip: str | None,
        skip_rank: int,
        norm_before: bool,
        norm_after: bool,
        dropout: float,
        stochastic_depth: float,
        gate: bool,
        causal: bool,
        dtype: torch.dtype,
        projections: tuple[nn.Module, nn.Module] | None = None,
        shared: nn.Module | None = None,
    ) -> None:
        super().__init__(reads=reads, writes=writes, shared=shared)
        self.activation, self.dropout, self.stochastic_depth, self.causal = (
            activation,
            dropout,
            stochastic_depth,
            causal,
        )
        self.skip_kind = skip
        self.has_randomness = dropout > 0 or stochastic_depth > 0

        def weight(*shape: int, fill: float = 0.0) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, fill, dtype=dtype))

        self.down, self.up = projections or (weight(size, width), weight(width, size))
        self.down_bias, self.up_bias = weight(size), weight(width) if up_bias else None
        learned = {"learned": weight(1, fill=1.0), "channel": weight(width, fill=1.0)}
        self.scale = learned[scale] if isinstance(scale, str) else float(scale)
        self.norm_before = nn.LayerNorm(width, dtype=dtype) if norm_before else None
        self.norm_after = nn.LayerNorm(width, dtype=dtype) if norm_after else None
        self.gate = weight(1, width) if gate else None
        self.gate_bias = weight(1) if gate else None
        self.skip_down = weight(skip_rank, width) if skip == "low_rank" else None
        shape = {"scalar": (1,), "diagonal": (width,), "low_rank": (width, skip_rank), "dense": (width, width)}
        self.skip = weight(*shape[skip]) if skip else None
        self._start(init, first_init, init_std)

    @torch.no_grad()
    def _start(self, init: str, first_init: str, std: float) -> None:
        """The initial values; every bias and every skip starts at zero."""
        self._start_projections(init, first_init, std)
        if self.norm_after is not None and init == "zero":
            nn.init.zeros_(self.norm_after.weight)
        if self.skip_down is not None:
            nn.init.kaiming_uniform_(self.skip_down, a=math.sqrt(5))
        if self.gate is not None:
            nn.init.normal_(self.gate, std=0.02)

    def _start_projections(self, init: str, first_init: str, std: float) -> None:
        """The initial values of D and U."""
        start_projections(self.down_weight(), self.up_weight(), init, first_init, std)

    def down_weight(self) -> Tensor:
        """D ``(rank, width)``."""
        return self.down  # type: ignore[return-value]

    def up_weight(self) -> Tensor:
        """U ``(width, rank)``."""
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
        up = self._wide_up()
        if isinstance(self.scale, float):
            if self.scale == 1.0:
                return up, self.up_bias
            return up * self.scale, None if self.up_bias is None else self.up_bias * self.scale
        return up * self.scale[:, None], None if self.up_bias is None else self.up_bias * self.scale

    def prepare(self, read: Tensor) -> Tensor:
        return read if self.norm_before is None else normed(self.norm_before, read)

    def perturb(self, features: Tensor) -> Tensor:
        if self.dropout and self.random:
            return nn.functional.dropout(features, self.dropout)
        return features

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

    def raised(self, features: Tensor) -> Tensor:
        """``U a + b_U`` ``(batch, positions, width)``, without what stands behind it."""
        return nn.functional.linear(features, cast(self._wide_up(), features), cast(self.up_bias, features))

    def forward(self, read: Tensor, context: Context) -> Tensor:
        if self.banked and not self.made:
            return super().forward(read, context)
        delta = self.raised(self.features(read))
        if self.skip_kind == "dense":
            delta = delta + nn.functional.linear(self.prepare(read), cast(self.skip, read))
        elif self.skip_kind in ("scalar", "diagonal"):
            delta = delta + self.prepare(read) * cast(self.skip, read)
        if self.norm_after is not None:
            delta = normed(self.norm_after, delta)
        delta = delta * (self.scale if isinstance(self.scale, float) else cast(self.scale, delta))
        gain = self.gain(read, context)
        return delta if gain is None else delta * gain.to(delta.dtype)


def start_projections(down: Tensor, up: Tensor, init: str, first_init: str, std: float) -> None:
    """Draw D ``(rank, width)`` and U ``(width, rank)``, both zero before.

    Args:
        down: D.
        up: U.
        init: One of `INITS`.
        first_init: How D starts where ``init`` is ``"zero"``.
        std: Standard deviation of the two normal starts.
    """
    for weight in (down, up):
        kind = first_init if init == "zero" else init
        if kind == "houlsby":
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
        elif kind == "normal":
            nn.init.normal_(weight, std=std)
        elif kind == "xavier":
            nn.init.xavier_uniform_(weight)
        elif weight is down:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    if init in ("zero", "parallel"):
        up.zero_()
