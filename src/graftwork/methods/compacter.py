"""Compacter and its relatives (Mahabadi et al. 2021, *Compacter*, arXiv:2106.04647; PHM: Zhang et al. 2021, arXiv:2102.08597).

    y ← y + U gelu(D y + b_D) + b_U          after attention and after the feed-forward, never after cross-attention

    Dᵀ, Uᵀ = Σ_{i=1..n} A_i ⊗ B_i            A_i (n, n), B_i (in/n, out/n)
    B_i = s_i t_i                            s_i (in/n, k), t_i (k, out/n)

- **Compacter**: the rule A is *one* tensor for every down- and up-projection of the adapter, in every layer of encoder and
  decoder; n = 4, k = 1. **Compacter++** has an adapter after the feed-forward only.
- **PHM**: each projection has a rule of its own, and B_i is whole.
- **LowRank**: Dᵀ, Uᵀ = s t, without a rule.

s, t and B start by Glorot with gain √2, slice by slice; A from N(0, 1e-4) where it is shared, N(0, 0.01) where it is not; the
biases at zero. The paper trains T5's norms too. Width 24 is the paper's for T5-base (of 24, 48 and 96).

In T5 the adapter is after the branch's dropout, so that its addition is never dropped. The authors have it inside, before the
dropout; for that, pass `attach` sites whose output is that of the module before it, such as
``replace(site, output=gw.Tap("encoder.block.0.layer.1.DenseReluDense", "output"))``. In evaluation the two are the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.methods.bottleneck import Bottleneck, BottleneckModule
from graftwork.methods.layers.activations import activation
from graftwork.methods.layers.contract import Place, cast
from graftwork.methods.layers.kronecker import Projection, Rule
from graftwork.methods.layers.layerwise import puts_adapter_at
from graftwork.methods.registry import register


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kronecker(Bottleneck):
    """Base of the four configurations; they have every option of `Bottleneck` too.

    Attributes:
        init: ``"glorot"``, or ``"zero"``: the last factor of U is zero, and so is the adapter's addition.
        rank: Rank k of each B_i; ``None`` is B_i whole.
    """

    default_size: ClassVar[tuple[str, float]] = ("bottleneck_size", 24)
    default_init: ClassVar[str] = "glorot"
    inits: ClassVar[tuple[str, ...]] = ("glorot", "zero")

    activation: str = "gelu_tanh"
    init: str = "glorot"
    norms: str = "own"
    rank: int | None = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank is not None:
            self._settle_whole("rank")

    def build(self, place: Place, shared: nn.Module | None = None) -> KroneckerModule | None:
        if not puts_adapter_at(self, place):
            return None
        width, size = place.site.width, self.size_at(place)
        pair = self.projection(place, width, size), self.projection(place, size, width)
        return KroneckerModule(self, place, pair, shared)

    def projection(self, place: Place, width_in: int, width_out: int) -> Projection:
        """Return one projection at a place, its weights not yet drawn: here without a rule."""
        return Projection(width_in, width_out, 1, self.rank, own_rule=False, dtype=self.torch_dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ruled(_Kronecker):
    """Base of the configurations with rule matrices: ``n`` of them, each n × n."""

    own_rule: ClassVar[bool] = False

    n: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle_whole("n")

    def projection(self, place: Place, width_in: int, width_out: int) -> Projection:
        for size in (width_in, width_out):
            if size % self.n:
                raise self._misfit(place, size)
        return Projection(width_in, width_out, self.n, self.rank, own_rule=self.own_rule, dtype=self.torch_dtype)

    def _misfit(self, place: Place, size: int) -> ConfigError:
        """The error for an n that does not divide a width, with those that do."""
        width, own = place.site.width, self.size_at(place)
        what = "the bottleneck's width" if size == own != width else "the model's width"
        both = math.gcd(width, own)
        fit = ", ".join(str(d) for d in range(1, both + 1) if both % d == 0)
        more = f", or bottleneck_size a multiple of {self.n}" if width % self.n == 0 else ""
        return ConfigError(
            f"{type(self).__name__}: n is {self.n}, which does not divide {what} {size} at {place.site.key}; n has to divide "
            f"both {width} and {own}: give n one of {fit}{more}"
        )


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Compacter(_Ruled):
    """Two adapters a layer, whose projections all share one rule.

    T5-base at width 24: 114,112 weights, 161,728 with the 62 norms (0.073 %).

    Attributes:
        n: Number of the rule matrices A_i and their size; it has to divide the model's width and the bottleneck's.
        rank: Rank k of each B_i; ``None`` is B_i whole.
        init_std: Standard deviation of the A_i at the start.

    Example:
        >>> adapters.add("c", gw.Compacter(bottleneck_size=8))
        >>> adapters.shared_of("c").matrices.shape
        torch.Size([4, 4, 4])
    """

    method: ClassVar[str] = "compacter"

    init_std: float = 1e-4

    def shared(self, places: Sequence[Place]) -> Rule:
        return Rule(self.n, self.init_std, self.torch_dtype)

    def build(self, place: Place, shared: nn.Module | None = None) -> KroneckerModule | None:
        if not isinstance(shared, Rule):
            raise ConfigError(
                f"{type(self).__name__}: build(place, {shared!r}) lacks the rule; give what shared(places) returned"
            )
        return super().build(place, shared)


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class CompacterPlusPlus(Compacter):
    """Compacter after the feed-forward only.

    T5-base at width 24: 57,088 weights, 104,704 with the norms (0.047 %).

    Example:
        >>> adapters.add("c", gw.CompacterPlusPlus(bottleneck_size=8, rank=2))
    """

    method: ClassVar[str] = "compacter_plus_plus"

    sites: tuple[str, ...] = ("feed_forward",)


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class PHM(_Ruled):
    """Each projection has a rule of its own, and B_i is whole (``rank`` a number factorises it).

    The paper's figures are those of ``n=12``, which few widths but 768 can be divided by; the default is Compacter's 4.
    T5-base at width 24 and n = 12: 351,360 weights, 398,976 with the norms (0.179 %).

    Attributes:
        n: Number of the rule matrices A_i and their size; it has to divide the model's width and the bottleneck's.
        rank: Rank k of each B_i; ``None`` is B_i whole.
        init_std: Standard deviation of the A_i at the start.

    Example:
        >>> adapters.add("c", gw.PHM(bottleneck_size=8, n=2))
    """

    method: ClassVar[str] = "phm"
    own_rule: ClassVar[bool] = True

    rank: int | None = None
    init_std: float = 1e-2


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class LowRank(_Kronecker):
    """A bottleneck whose two projections are products s t of rank k: no rule, no Kronecker product.

    T5-base at width 24 and rank 1: 114,048 weights, 161,664 with the norms (0.073 %). As published it starts far from the base,
    because no rule makes the factors small; ``init="zero"`` starts at the base.

    Attributes:
        rank: Rank k of each projection.
        init_std: Not used: there is no rule matrix to start.

    Example:
        >>> adapters.add("c", gw.LowRank(bottleneck_size=8, init="zero"))
    """

    method: ClassVar[str] = "low_rank"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank is None:
            raise ConfigError("LowRank: rank is None, which is no low rank; give a whole number of 1 or more")
        if self.init_std != Bottleneck.init_std:
            raise ConfigError(
                f"LowRank: init_std is {self.init_std!r}, but it has no rule matrices to start with it; leave it out"
            )


class KroneckerModule(BottleneckModule):
    """A bottleneck whose D and U are `Projection`s; a shared `Rule` is that of both.

    `segments` and `readout` return the weights themselves, so that a bank computes and mixes these adapters like any
    bottleneck; an adapter by itself computes its products without them where that is cheaper.
    """

    made: ClassVar[bool] = True

    down: Projection
    up: Projection

    def _start_projections(self, config: Bottleneck) -> None:
        self.down.start(config.init_std, zero=False)
        self.up.start(config.init_std, zero=config.init == "zero")

    @property
    def rule(self) -> Tensor | None:
        """The shared A_i, on this site's device."""
        return self.shared.matrices.to(self.down.left.device) if isinstance(self.shared, Rule) else None

    def down_weight(self) -> Tensor:
        return self.down.weight(self.rule)

    def up_weight(self) -> Tensor:
        return self.up.weight(self.rule)

    def features(self, read: Tensor) -> Tensor:
        if self.skip_down is not None:
            return super().features(read)
        prepared = self.prepare(read)
        raw: Tensor = self.down(prepared, self.rule)
        raw = raw if self.down_bias is None else raw + cast(self.down_bias, prepared)
        return self.perturb(activation(self.activation)(raw))

    def project_up(self, features: Tensor) -> Tensor:
        if self.skip_down is not None:
            return super().project_up(features)
        delta: Tensor = self.up(features, self.rule)
        return delta if self.up_bias is None else delta + cast(self.up_bias, delta)
