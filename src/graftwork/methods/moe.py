"""A sparsely-gated mixture of experts (Shazeer et al. 2017, *Outrageously Large Neural Networks*, arXiv:1701.06538).

    y ← y + Σ_i g_i(h) E_i(h),        E_i(h) = U_i φ(D_i h + b_i) + c_i

The experts are bottlenecks of one size at a site, learned with the gate; g is 0 but for k of them at each position, and only these
are computed where that pays (`methods/layers/experts.py`). The gate, its noise and its two losses are in
`methods/layers/top_k_gating.py`. Padding takes no part in the losses. Without training there is no noise: the choice is a
function of h.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn

from graftwork.methods.layers.bottleneck import start_projections
from graftwork.methods.layers.bottleneck_config import BottleneckBase
from graftwork.methods.layers.contract import AdapterModule, Context, Place
from graftwork.methods.layers.experts import Experts, mixture
from graftwork.methods.layers.top_k_gating import Gates, NoisyGate, balance
from graftwork.methods.registry import register
from graftwork.options import flags, within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class MoE(BottleneckBase):
    """A mixture of bottlenecks, of which each position uses a few; the options of `BottleneckBase` are those of every expert.

    With k = 1 the one gate is 1 whatever the logits are: then the gate learns by its losses alone.

    Attributes:
        experts: Their number n.
        top_k: How many each position uses, k.
        noise: Whether there is noise on the gate in training; without it the load is no loss.
        importance: Weight of the loss CV²(importance): 0.1 in the paper, 0.01 in the authors' code.
        load: Weight of the loss CV²(load), likewise.

    Raises:
        ConfigError: If a value is refused.
    """

    method: ClassVar[str] = "moe"

    sites: tuple[str, ...] = ("feed_forward",)
    reads: str = "normed"
    experts: int = 8
    top_k: int = 2
    noise: bool = True
    importance: float = 0.1
    load: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "experts", 1, whole=True)
        within(self, "top_k", 1, self.experts, whole=True)
        for field in ("experts", "top_k"):
            object.__setattr__(self, field, int(getattr(self, field)))
        flags(self, "noise")
        within(self, "importance", 0.0)
        within(self, "load", 0.0)

    def build(self, place: Place, shared: nn.Module | None = None) -> MoEModule | None:
        if not self.stands_at(place):
            return None
        return MoEModule(self, place.site.width, self.size_at(place))


class MoEModule(AdapterModule):
    """The experts, stacked, and their gate, at one site."""

    def __init__(self, config: MoE, width: int, size: int) -> None:
        super().__init__(reads=config.reads, writes=config.writes)
        self.config = config
        self.has_randomness = config.noise or config.dropout > 0

        def weight(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(config.experts, *shape, dtype=config.torch_dtype))

        self.gate = NoisyGate(config.experts, width, noise=config.noise, dtype=config.torch_dtype)
        self.down, self.down_bias = weight(size, width), weight(size)
        self.up, self.up_bias = weight(width, size), weight(width) if config.up_bias else None
        with torch.no_grad():
            for down, up in zip(self.down, self.up, strict=True):
                start_projections(down, up, config.init, config.default_init, config.init_std)

    def experts(self) -> Experts:
        """The experts' weights."""
        return Experts(self.down, self.down_bias, self.up, self.up_bias, self.config.activation)

    def gates(self, read: Tensor) -> Gates:
        """Which experts each position uses, for a read ``(batch, positions, width)``."""
        return self.gate(read, self.config.top_k, noisy=self.random)  # type: ignore[no-any-return]

    def forward(self, read: Tensor, context: Context) -> Tensor:
        gates = self.gates(read)
        if self.training and self.trainable:
            kept = context.padding_mask(read)
            loss = balance(gates, kept, importance=self.config.importance, load=self.config.load)
            if loss is not None:
                context.add_loss(loss)
        return mixture(self.experts(), read, gates, self.perturb)

    def perturb(self, features: Tensor) -> Tensor:
        if self.config.dropout and self.random:
            return nn.functional.dropout(features, self.config.dropout)
        return features
