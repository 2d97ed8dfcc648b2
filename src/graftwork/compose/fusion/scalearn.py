"""ScaLearn (Frohmann et al. 2023, *ScaLearn*, arXiv:2310.01217): learned scales in the place of an attention.

    δ = Σ_n ω_n ⊙ z_n

with z_n the n-th child's addition and ω_n a vector of the site's width, the same for all tokens; the scales need not add up to 1.

- **ScaLearn**: ω_n ∈ R^d at every site. **ScaLearnUniform** (`uniform`): one number a child and site.
- **ScaLearn++**, **ScaLearnUniform++** (`across_layers`): one ω for all layers of a stack, one for each kind of site.

The scales start from N(2 / N, 0.001). In training an ω is dropped with probability 0.3, and by nothing in ScaLearnUniform++ (the
authors' configurations). Their learning rate is 6e-3.

Over the bank the scales go into the stacked up-projection, once for all tokens:
``Σ_n ω_n ⊙ (U_n a_n) = [ω_1 ⊙ U_1 … ω_N ⊙ U_N] a``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftwork.compose.bank import Bank, Stacked
from graftwork.compose.blocks import Composition, Learned
from graftwork.compose.fusion.learned import LearnedConfig, LearnedModule, register
from graftwork.compose.nodes import Node, Pool
from graftwork.compose.reads import Reads
from graftwork.errors import ConfigError
from graftwork.methods import Place
from graftwork.methods.layers.weight_cache import WeightCache
from graftwork.options import flags, within


class ScaLearn(Learned):
    """ScaLearn (Frohmann et al. 2023, arXiv:2310.01217): learned scales of the children, the same for every token.

    Each child has scales of its own, so a composition under its name can have fewer children than it was added with, not others.

    Args:
        *children: The pool, in no particular order.
        name: The name of the scales. By default made of the children.
        norms: ``"base"`` uses the base's norms where the children's own differ; without it that is an error.

    Example:
        >>> adapters.add_fusion(gw.ScaLearn("a", "b", name="ab"))
        >>> adapters.train_only("ab")
    """

    kind = "scalearn"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaLearnConfig(LearnedConfig):
    """How the scales are made.

    Attributes:
        uniform: One number a child in the place of one for each dimension (ScaLearnUniform).
        across_layers: All layers of a stack have the same scales, one set for each kind of site (the ++ forms).
        dropout: On the scales, while they learn.
        init_sum: What the scales of all children add up to at the start, in the mean.
        init_std: Their standard deviation at the start.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add_fusion(gw.ScaLearn("a", "b", name="ab"), gw.ScaLearnConfig(across_layers=True))
    """

    uniform: bool = False
    across_layers: bool = False
    dropout: float = 0.3
    init_sum: float = 2.0
    init_std: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        flags(self, "uniform", "across_layers")
        within(self, "dropout", 0.0, 0.999)
        within(self, "init_sum", -1e6, 1e6)
        within(self, "init_std", 0.0)

    def drawn(self, block: Learned, width: int) -> nn.Parameter:
        """New scales ``(children, width)``, or ``(children, 1)``."""
        shape = (len(block.children), 1 if self.uniform else width)
        scales = torch.empty(shape, dtype=self.torch_dtype)
        return nn.Parameter(nn.init.normal_(scales, self.init_sum / shape[0], self.init_std))

    def shared(self, block: Learned, places: Sequence[Place]) -> nn.Module | None:
        if not self.across_layers:
            return None
        common = nn.ParameterDict()
        for place in places:
            key, width = _key(place), place.site.width
            if key not in common:
                common[key] = self.drawn(block, width)
            elif not self.uniform and common[key].shape[1] != width:
                raise ConfigError(
                    f"ScaLearnConfig: across_layers is True, but the sites of {key} are {common[key].shape[1]} and {width} wide; "
                    "give across_layers=False, or uniform=True"
                )
        return common

    def build(self, block: Learned, place: Place, shared: nn.Module | None = None) -> ScaLearnModule:
        own = None if isinstance(shared, nn.ParameterDict) else self.drawn(block, place.site.width)
        return ScaLearnModule(block.children, self, own, _key(place), shared)


def _key(place: Place) -> str:
    """What the sites that share scales have in common; a dot would split the name of a parameter."""
    site = place.site
    what = site.name if site.kind == "projection" else site.kind
    return f"{site.stack}/{what}".replace(".", "/")


class ScaLearnModule(LearnedModule):
    """The scales at one site: its own, or those that it shares with other layers."""

    def __init__(
        self,
        pool: Sequence[Composition],
        config: ScaLearnConfig,
        own: nn.Parameter | None,
        key: str,
        shared: nn.Module | None,
    ) -> None:
        super().__init__(pool=pool, shared=shared)
        self.config = config
        self.key = key
        self.own = own

    @property
    def drops(self) -> bool:
        """Whether dropout is at work now."""
        return self.config.dropout > 0 and self.training and self.trainable

    def weights(self) -> list[Tensor]:
        return [self._scales()]

    def _scales(self) -> Tensor:
        if self.own is not None:
            return self.own
        scales: Tensor = self.shared[self.key]  # type: ignore[index]
        return scales

    def scales(self, device: torch.device) -> Tensor:
        """ω ``(children, width)`` or ``(children, 1)``, in the pool's order, those that are dropped being 0."""
        scales = self._scales().to(device)
        return nn.functional.dropout(scales, self.config.dropout) if self.drops else scales


class Scaled(Pool):
    """ScaLearn at one site."""

    def __init__(self, block: ScaLearn, children: Sequence[Node | None], module: ScaLearnModule, site: str) -> None:
        super().__init__(children)
        self.module = module
        by_place = dict(zip(self.order, module.places(block), strict=True))
        self.picks = [by_place[place] for place in range(len(children))]
        self.kept: WeightCache[Stacked] = WeightCache(self._fixed)

    def __call__(self, reads: Reads) -> Tensor:
        scales = self._picked(reads.value.device)
        total, count = torch.zeros_like(reads.value), 0
        if self.bank is not None:
            count = len(self.bank.members)
            stacked = self._stacked(self.bank, scales[:count])
            total = self.bank.mix(self.bank.gains(reads), self.bank.features(reads, stacked), stacked)
        for scale, delta in zip(scales[count:], self.other_deltas(reads), strict=True):
            # The scale of a child that adds nothing here has no gradient of its own, and data parallel training waits for it.
            total = total + (0.0 * scale.sum() if delta is None else scale.to(delta.dtype) * delta)
        return total

    def _picked(self, device: torch.device) -> Tensor:
        """The scales of this block's children, the banked ones first."""
        scales = self.module.scales(device)
        whole = self.picks == list(range(len(scales)))
        return scales if whole else torch.stack([scales[n] for n in self.picks])

    def _stacked(self, bank: Bank, scales: Tensor) -> Stacked:
        if self.module.drops:
            return bank.scaled(bank.stacked(), scales)
        return self.kept.get([*bank.weights(), *self.module.weights()])

    def _fixed(self) -> Stacked:
        assert self.bank is not None
        stacked = self.bank.stacked()
        return self.bank.scaled(stacked, self._picked(stacked.up.device)[: len(self.bank.members)])


register(ScaLearn, ScaLearnConfig, Scaled)
