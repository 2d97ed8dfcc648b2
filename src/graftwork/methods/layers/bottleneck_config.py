"""What the methods made of bottlenecks have in common: where they stand, what they read, how wide they are, how they start."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from graftwork.errors import ConfigError
from graftwork.methods.layers.activations import ACTIVATIONS, canonical
from graftwork.methods.layers.bottleneck import INITS
from graftwork.methods.layers.contract import READS, WRITES, AdapterConfig, Place
from graftwork.methods.layers.layerwise import check_layers, for_layer, layer_keys, settle_places, stands_at
from graftwork.options import flags, is_number, one_of, within

Width = float | Mapping[Any, float] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BottleneckBase(AdapterConfig):
    """Base of the configurations of bottlenecks.

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
        dropout: On the features, while the adapter learns.
        leave_out: Layers without the adapter (AdapterDrop, Rücklé et al. 2021, arXiv:2010.11918).

    Raises:
        ConfigError: If a value is refused.
    """

    default_size: ClassVar[tuple[str, float]] = ("bottleneck_size", 16)
    default_init: ClassVar[str] = "houlsby"
    inits: ClassVar[tuple[str, ...]] = INITS

    sites: tuple[str, ...] = ("attention", "feed_forward")
    reads: str = "output"
    writes: str = "branch"
    reduction_factor: Width = None
    bottleneck_size: Width = None
    activation: str = "relu"
    init: str = "houlsby"
    init_std: float = 1e-2
    up_bias: bool = True
    dropout: float = 0.0
    leave_out: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        settle_places(self)
        one_of(self, "activation", ACTIVATIONS)
        object.__setattr__(self, "activation", canonical(self.activation))
        one_of(self, "reads", READS)
        one_of(self, "writes", WRITES)
        one_of(self, "init", self.inits)
        flags(self, "up_bias")
        within(self, "init_std", 0.0, 10.0)
        within(self, "dropout", 0.0, 0.999)
        self._settle_size()

    def _settle_size(self) -> None:
        """Exactly one of the two sizes; the preset's own where neither is given."""
        given = [f for f in ("reduction_factor", "bottleneck_size") if getattr(self, f) is not None]
        if len(given) == 2:
            raise ConfigError(
                f"{type(self).__name__}: reduction_factor={self.reduction_factor!r} and bottleneck_size="
                f"{self.bottleneck_size!r} say the same thing twice; give one"
            )
        if not given:
            field, value = self.default_size
            object.__setattr__(self, field, value)
            given = [field]
        size = layer_keys(getattr(self, given[0]))
        object.__setattr__(self, given[0], size)
        where = f"{type(self).__name__}: {given[0]}"
        if size == {}:
            raise ConfigError(f"{where} is an empty mapping; name layers, or a 'default'")
        for value in size.values() if isinstance(size, dict) else [size]:
            if not is_number(value) or not value > 0:
                raise ConfigError(f"{where} has the value {value!r}; it must be a number above 0")
            if given[0] == "bottleneck_size" and value != int(value):
                raise ConfigError(f"{where} has the value {value!r}; it must be a whole number")

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        for field in ("reduction_factor", "bottleneck_size", "leave_out"):
            check_layers(type(self).__name__, field, getattr(self, field), layers)

    def size_at(self, place: Place) -> int:
        """The bottleneck's width ``r`` at one place."""
        name = type(self).__name__
        if self.bottleneck_size is not None:
            return max(1, int(for_layer(name, "bottleneck_size", self.bottleneck_size, place.site)))
        return max(1, int(place.site.width / for_layer(name, "reduction_factor", self.reduction_factor, place.site)))

    def stands_at(self, place: Place) -> bool:
        """Whether the method puts an adapter at a place."""
        return stands_at(self, place)
