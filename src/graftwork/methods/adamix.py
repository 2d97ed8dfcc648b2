"""AdaMix (Wang et al. 2022, *Mixture-of-Adaptations for Parameter-efficient Model Tuning*, arXiv:2205.12410).

    in training:    y ← y + U_j gelu(D_i y + b_i) + c_j            i and j drawn anew at every site in every forward pass
    otherwise:      y ← y + Ū gelu(D̄ y + b̄) + c̄                    the means over i and j: one adapter

M bottlenecks a site, of which a whole batch uses one down- and one up-projection. By default all share one up-projection, as in
the authors' script. What is not being trained is the merged adapter: it costs as one bottleneck and fuses as one, and
``adapters.materialize`` writes it without the others.

The paper adds a loss, with which two forward passes of a batch agree: `graftwork.training.ConsistencyTrainer`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn

from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.layers.bottleneck import BottleneckBase, start_projections
from graftwork.methods.layers.contract import AdapterModule, Place, Segment
from graftwork.methods.layers.layerwise import puts_adapter_at
from graftwork.methods.layers.weight_cache import WeightCache
from graftwork.methods.registry import register
from graftwork.options import flags


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaMix(BottleneckBase):
    """A mixture of bottlenecks on the feed-forward's output, one drawn for each batch in training, merged afterwards.

    BERT-base: 2,223,360 weights, of which the merged adapter has 894,528. The options of `BottleneckBase` are those of every
    bottleneck; the paper is 48 wide on BERT-base and 16 on RoBERTa-large.

    Attributes:
        experts: Number M of the bottlenecks.
        share_down: Whether they have one down-projection in common.
        share_up: Whether they have one up-projection in common.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add("c", gw.AdaMix(experts=2, bottleneck_size=4))
        >>> adapters.materialize("c", "merged")
        >>> adapters.config("merged").method
        'bottleneck'
    """

    method: ClassVar[str] = "adamix"
    default_size: ClassVar[tuple[str, float]] = ("bottleneck_size", 48)
    default_init: ClassVar[str] = "normal"

    sites: tuple[str, ...] = ("feed_forward",)
    activation: str = "gelu"
    init: str = "normal"
    init_std: float = 0.02
    experts: int = 4
    share_down: bool = False
    share_up: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle_whole("experts")
        flags(self, "share_down", "share_up")

    def exported(self) -> Bottleneck:
        return Bottleneck(**{f.name: getattr(self, f.name) for f in dataclasses.fields(BottleneckBase)})

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        return AdaMixModule(self, place) if puts_adapter_at(self, place) else None


class AdaMixModule(AdapterModule):
    """The bottlenecks of one site, stacked: D ``(M, r, d)``, U ``(M, d, r)`` and their biases; M is 1 where one is shared."""

    def __init__(self, config: AdaMix, place: Place) -> None:
        super().__init__(reads=config.reads, writes=config.writes)
        self.activation, self.dropout = config.activation, config.dropout
        self.has_randomness = config.experts > 1 or config.dropout > 0
        width, size, dtype = place.site.width, config.size_at(place), config.torch_dtype

        def weight(shared: bool, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(1 if shared else config.experts, *shape, dtype=dtype))

        self.down = weight(config.share_down, size, width)
        self.down_bias = weight(config.share_down, size) if config.down_bias else None
        self.up = weight(config.share_up, width, size)
        self.up_bias = weight(config.share_up, width) if config.up_bias else None
        self.kept: WeightCache[dict[str, Tensor]] = WeightCache(self._merge)
        with torch.no_grad():
            for n in range(config.experts):
                start_projections(self.down[n % len(self.down)], self.up[n % len(self.up)], config)

    def _merge(self) -> dict[str, Tensor]:
        return {name: stacked.mean(0) for name, stacked in self.named_parameters()}

    def _projection(self, name: str) -> tuple[Tensor, Tensor | None]:
        """A matrix and its bias: one of those there are while the adapter is trained, else their means."""
        bias = f"{name}_bias"
        if not self.random:
            merged = self.kept.get(self.weights())
            return merged[name], merged.get(bias)
        own = dict(self.named_parameters())
        # drawn on the weights' device, so that nothing waits for it
        drawn = torch.randint(len(own[name]), (1,), device=own[name].device)
        return own[name][drawn].squeeze(0), own[bias][drawn].squeeze(0) if bias in own else None

    @property
    def banked(self) -> bool:
        return True

    @property
    def foldable(self) -> bool:
        return True

    def segments(self) -> tuple[Segment, ...]:
        return (Segment(*self._projection("down"), self.activation),)

    def readout(self) -> tuple[Tensor, Tensor | None]:
        return self._projection("up")

    def perturb(self, features: Tensor) -> Tensor:
        return nn.functional.dropout(features, self.dropout) if self.dropout and self.random else features

    def exported(self) -> dict[str, Tensor]:
        return self._merge()
