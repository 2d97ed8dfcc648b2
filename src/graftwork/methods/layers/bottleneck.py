"""What methods made of bottlenecks share: the options for sites, reads, widths and initial values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.activations import settle_activation
from graftwork.methods.layers.contract import READS, WRITES, AdapterConfig, Place
from graftwork.methods.layers.layerwise import check_layers, for_layer, settle_places
from graftwork.options import flags, is_number, one_of, within

INITS = ("houlsby", "normal", "xavier", "parallel", "zero")

Width = float | Mapping[Any, float] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BottleneckBase(AdapterConfig):
    """Base of the configurations of bottlenecks.

    Attributes:
        sites: Kinds of sites that have an adapter. ``"attention"`` includes mixers (state space, Fourier, pooling).
        reads: ``"output"`` of the branch, ``"normed"`` (the stream after the addition and the post-norm, the plain
            ``"stream"`` in a pre-norm model), ``"residual"`` (the stream before the addition), ``"input"`` of the
            branch, or ``"layer_input"``.
        writes: ``"branch"`` (y ← y + δ, before the model's norm) or ``"stream"`` (after it).
        reduction_factor: Width of the model over that of the bottleneck; a number, or a mapping from layer to number
            with ``"default"`` for the others. Layers are numbers within their stack, or ``"decoder.block.3"``.
        bottleneck_size: Width ``r`` itself, in the same forms; give one of the two.
        activation: The non-linearity φ, one of `graftwork.methods.layers.activations.ACTIVATIONS`.
        init: ``"houlsby"`` (truncated normal), ``"normal"``, ``"xavier"``, ``"parallel"`` (U = 0), or ``"zero"`` (D as
            the method starts it, and everything else so that the adapter adds exactly zero at the start).
        init_std: Standard deviation of the two normal starts.
        down_bias: Whether there is b_D.
        up_bias: Whether there is b_U.
        dropout: Dropout on the features, while the adapter is trained.
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
    down_bias: bool = True
    up_bias: bool = True
    dropout: float = 0.0
    leave_out: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        settle_places(self)
        settle_activation(self)
        one_of(self, "reads", READS)
        one_of(self, "writes", WRITES)
        one_of(self, "init", self.inits)
        flags(self, "down_bias", "up_bias")
        within(self, "init_std", 0.0, 10.0)
        within(self, "dropout", 0.0, 0.999)
        self._settle_size()

    def _settle_size(self) -> None:
        """Exactly one of the two sizes; the default of the preset where neither is given."""
        refuse_two_sizes(self)
        if self.reduction_factor is None and self.bottleneck_size is None:
            object.__setattr__(self, *self.default_size)
        field = "reduction_factor" if self.bottleneck_size is None else "bottleneck_size"
        size = getattr(self, field)
        where = f"{type(self).__name__}: {field}"
        if isinstance(size, Mapping):
            size = {str(k): v for k, v in size.items()}  # as JSON has the keys
            if not size:
                raise ConfigError(f"{where} is an empty mapping; name layers, or a 'default'")
        object.__setattr__(self, field, size)
        for value in size.values() if isinstance(size, dict) else [size]:
            if not is_number(value) or not value > 0:
                raise ConfigError(f"{where} has the value {value!r}; it must be a number above 0")
            if field == "bottleneck_size" and value != int(value):
                raise ConfigError(f"{where} has the value {value!r}; it must be a whole number")

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        for field in ("reduction_factor", "bottleneck_size", "leave_out"):
            check_layers(type(self).__name__, field, getattr(self, field), layers)

    def size_at(self, place: Place) -> int:
        """Return the bottleneck's width ``r`` at one place."""
        if self.bottleneck_size is not None:
            return max(1, int(for_layer(self, "bottleneck_size", place.site)))
        return max(1, int(place.site.width / for_layer(self, "reduction_factor", place.site)))


def refuse_two_sizes(config: Any) -> None:
    """Refuse a configuration with both ``reduction_factor`` and ``bottleneck_size``."""
    if config.reduction_factor is not None and config.bottleneck_size is not None:
        raise ConfigError(
            f"{type(config).__name__}: reduction_factor={config.reduction_factor!r} and bottleneck_size="
            f"{config.bottleneck_size!r} say the same thing twice; give one"
        )


def start_projections(down: Tensor, up: Tensor, config: BottleneckBase) -> None:
    """Draw D ``(rank, width)`` and U ``(width, rank)``, both zero before; an ``init`` of ``"zero"`` draws D as by default."""
    kind, std = config.default_init if config.init == "zero" else config.init, config.init_std
    for weight in (down, up):
        if kind == "houlsby":
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
        elif kind == "normal":
            nn.init.normal_(weight, std=std)
        elif kind == "xavier":
            nn.init.xavier_uniform_(weight)
        elif weight is down:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    if config.init in ("zero", "parallel"):
        up.zero_()
