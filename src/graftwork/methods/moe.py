"""A sparsely-gated mixture of experts (Shazeer et al. 2017, *Outrageously Large Neural Networks*, arXiv:1701.06538).

    y ← y + Σ_i g_i(h) E_i(h),        E_i(h) = U_i φ(D_i h + b_i) + c_i

The experts are bottlenecks of one size at a site, trained with the gate; g is 0 except for k of them at each position, and only
these are computed where that is faster (`methods/layers/experts.py`). The gate, its noise and its two losses are in
`methods/layers/top_k_gating.py`. Padding does not count in the losses. Noise is on only in training; without it the choice
depends on h alone.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn

from graftwork.methods.layers.bottleneck import BottleneckBase, start_projections
from graftwork.methods.layers.contract import AdapterModule, Context, Place
from graftwork.methods.layers.experts import Experts, mixture
from graftwork.methods.layers.layerwise import puts_adapter_at
from graftwork.methods.layers.top_k_gating import Gates, NoisyGate, balance
from graftwork.methods.registry import register
from graftwork.options import flags, within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class MoE(BottleneckBase):
    """A mixture of bottlenecks, of which each position uses a few; the options of `BottleneckBase` are those of every expert.

    With k = 1 the one gate is 1 whatever the logits are, and the gate is trained by its two losses only.

    Attributes:
        experts: Number of experts, n.
        top_k: Number of experts that each position uses, k.
        noise: Whether there is noise on the gate in training; without it there is no loss on the load.
        importance: Weight of the loss CV²(importance): 0.1 in the paper, 0.01 in the authors' code.
        load: Weight of the loss CV²(load), likewise.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add("c", gw.MoE(experts=4, top_k=1, bottleneck_size=4))
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
        self._settle_whole("experts")
        self._settle_whole("top_k", high=self.experts)
        flags(self, "noise")
        within(self, "importance", 0.0)
        within(self, "load", 0.0)

    def build(self, place: Place, shared: nn.Module | None = None) -> MoEModule | None:
        return MoEModule(self, place.site.width, self.size_at(place)) if puts_adapter_at(self, place) else None


class MoEModule(AdapterModule):
    """The experts, stacked, and their gate, at one site."""

    def __init__(self, config: MoE, width: int, size: int) -> None:
        super().__init__(reads=config.reads, writes=config.writes)
        self.config = config
        self.has_randomness = config.noise or config.dropout > 0

        def weight(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(config.experts, *shape, dtype=config.torch_dtype))

        self.gate = NoisyGate(config.experts, width, noise=config.noise, dtype=config.torch_dtype)
        self.down, self.down_bias = weight(size, width), weight(size) if config.down_bias else None
        self.up, self.up_bias = weight(width, size), weight(width) if config.up_bias else None
        with torch.no_grad():
            for down, up in zip(self.down, self.up, strict=True):
                start_projections(down, up, config)

    def gates(self, read: Tensor) -> Gates:
        """Return which experts each position uses, for a read ``(batch, positions, width)``."""
        return self.gate(read, self.config.top_k, noisy=self.random)

    def forward(self, read: Tensor, context: Context) -> Tensor:
        gates = self.gates(read)
        if self.training and self.trainable:
            kept = context.padding_mask(read)
            loss = balance(gates, kept, importance=self.config.importance, load=self.config.load)
            if loss is not None:
                context.add_loss(loss)
        experts = Experts(self.down, self.down_bias, self.up, self.up_bias, self.config.activation)
        return mixture(experts, read, gates, self.perturb)

    def perturb(self, features: Tensor) -> Tensor:
        rate = self.config.dropout
        return nn.functional.dropout(features, rate) if rate and self.random else features
