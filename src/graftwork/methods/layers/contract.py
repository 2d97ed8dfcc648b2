"""The contract between a method and everything above it.

An adapter is a small module that reads one tensor at a site and adds to the residual stream. A *method* says how that
module is made: a configuration (a frozen dataclass, pure data, JSON both ways) whose `AdapterConfig.build` makes one
`AdapterModule` for one site. The code above this one never looks inside a module: it uses what the module reads, where
it writes, and whether it is *banked*.

A banked adapter is features followed by a linear readout,

    A(h) = g · (U a(h) + c),      a(h) = [φ_1(D_1 h + b_1) ; φ_2(D_2 h + b_2) ; …]

so that N of them run as two products with stacked weights, and a composition can mix the narrow features instead of
N full-width outputs. Every other adapter composes by its outputs: the same results, without that speed.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.activations import activation
from graftwork.methods.layers.norms import NormPlace
from graftwork.options import Options, floating, one_of, plain, within
from graftwork.sites import Site

READS = ("residual", "input", "output", "stream", "normed", "layer_input")
WRITES = ("branch", "stream")
HIDDEN = "hidden:"  # and the number of a layer: the stream as it enters that layer


class Context(Protocol):
    """What a module may use in addition to the tensor it reads.

    Attributes:
        module: The module of the base that is called: at a projection the linear one, to be read and not changed.
    """

    module: nn.Module | None

    def padding_mask(self, read: Tensor) -> Tensor | None:
        """Return ``(batch, positions)``, true where a position is not padding; ``None`` where nothing is known."""

    def add_loss(self, loss: Tensor) -> None:
        """Add a scalar to the loss of this forward pass; for an adapter that is being trained, in training mode.

        Raises:
            AttachError: If it has no gradients though the model is being trained (reentrant checkpointing).
        """


@dataclasses.dataclass(frozen=True)
class Place:
    """A site, and what a configuration knows of the model around it.

    Attributes:
        site: The site.
        layers: Number of layers of the site's stack.
        causal: Whether later positions are hidden from earlier ones there (a decoder).
        block_kinds: The kinds of sites in the same layer.
        module: At a projection the linear module of the base, to be read and not changed.
    """

    site: Site
    layers: int
    causal: bool = False
    block_kinds: tuple[str, ...] = ()
    module: nn.Module | None = None


class Segment(NamedTuple):
    """The weights of some features ``φ(D h + b)``: ``down (rank, width)``, ``bias (rank,)`` or ``None``."""

    down: Tensor
    bias: Tensor | None
    activation: str


class AdapterModule(nn.Module):
    """One adapter at one site.

    Subclasses set `reads` and `writes`, and define `forward`. A banked one (`banked` is true) defines `segments` and
    `readout` instead, and may define `prepare`, `perturb` and `gain`.

    Tensors that the sites of an adapter have in common are registered once, in the root of the model, and only referred
    to here: they are no parameters of this module, and `weights` includes them.

    Attributes:
        shared: What `AdapterConfig.shared` made for all sites of the adapter, or ``None``.
        reads: Name of the tensor of the site that `forward` is given.
        writes: ``"branch"`` (y ← y + δ) or ``"stream"`` (after the site's norm).
        trainable: Whether this adapter is being trained. Randomness (dropout, stochastic depth) is on only while it is
            and the module is in training mode: a frozen adapter in a fusion is a fixed function.
        also_reads: Names of more tensors, which `forward` is given after the context: other tensors of the site, and
            hidden states such as ``"hidden:0"``, the stream as it enters the layer of that number. Only the site of kind
            ``layer`` at the end of a stack has these.
        has_randomness: Whether the method has any.
        unweighable: Why its addition cannot be weighed against others, with the way out; ``None`` where it can.
        mixes_positions: Whether an output position depends on other positions.
        causal: Whether it is in a decoder (`Place.causal`). One that mixes positions there is refused where a key/value
            cache leaves the earlier ones out.
        dimension: The dimension of features that it mixes: the last, or 1 for images.
    """

    mixes_positions: bool = False
    unweighable: str | None = None
    dimension: int = -1
    shared: nn.Module | None

    def __init__(self, *, reads: str, writes: str, shared: nn.Module | None = None) -> None:
        super().__init__()
        # Past nn.Module's own bookkeeping, so that it is no child. The module is kept and not its tensors, which a move
        # may replace; a deep copy or a pickle of the model keeps it the one that is registered.
        self.__dict__["shared"] = shared
        self.reads = reads
        self.writes = writes
        self.causal = False
        self.also_reads: tuple[str, ...] = ()
        self.trainable = False
        self.has_randomness = False

    def forward(self, read: Tensor, context: Context) -> Tensor:
        """Return the addition δ ``(batch, positions, width)`` for one read of the same shape."""
        features = self.features(read)
        up, constant = self.readout()
        delta = nn.functional.linear(features, cast(up, features), cast(constant, features))
        gain = self.gain(read, context)
        return delta if gain is None else delta * gain.to(delta.dtype)

    @property
    def parts(self) -> Mapping[int, AdapterModule]:
        """The modules that add up to this one, by the number of their configuration in `AdapterConfig.made_of`."""
        return {0: self}

    def set_trainable(self, trainable: bool) -> None:
        """Set whether this adapter is being trained."""
        self.trainable = trainable

    def writing(self, where: str) -> AdapterModule | None:
        """Return what it writes into the ``"branch"`` or the ``"stream"``, the same module each time; or ``None``."""
        return self if self.writes == where else None

    def weights(self) -> list[Tensor]:
        """Return every weight that this adapter is computed with: its own, and those shared by its sites."""
        return _parameters(self) + ([] if self.shared is None else _parameters(self.shared))

    @property
    def random(self) -> bool:
        """Whether dropout or stochastic depth is on now."""
        return self.has_randomness and self.trainable and self.training

    # -- of a banked adapter ---------------------------------------------------------------------------------------

    @property
    def banked(self) -> bool:
        """Whether this adapter is features and a linear readout."""
        return False

    @property
    def foldable(self) -> bool:
        """Whether the features depend on the plain read alone, so that weights around them can be multiplied out."""
        return False

    def segments(self) -> tuple[Segment, ...]:
        """Return the features' weights, in the order in which `readout` takes the features."""
        raise NotImplementedError(f"{type(self).__name__} composes by its outputs")

    def readout(self) -> tuple[Tensor, Tensor | None]:
        """Return ``U (width, rank)`` and ``c (width,)`` or ``None``, the adapter's own scale multiplied in."""
        raise NotImplementedError(f"{type(self).__name__} composes by its outputs")

    def prepare(self, read: Tensor) -> Tensor:
        """Return the read after a norm of the adapter's own, where it has one."""
        return read

    def perturb(self, features: Tensor) -> Tensor:
        """Return the features ``(batch, positions, rank)`` after dropout, where the method has it."""
        return features

    def gain(self, read: Tensor, context: Context) -> Tensor | None:
        """Return a factor ``(batch, positions or 1, 1)`` on the whole output, or ``None`` for 1."""
        return None

    def features(self, read: Tensor) -> Tensor:
        """Return the features ``(batch, positions, rank)`` of one read ``(batch, positions, width)``."""
        prepared = self.prepare(read)
        parts = [
            activation(s.activation)(nn.functional.linear(prepared, cast(s.down, prepared), cast(s.bias, prepared)))
            for s in self.segments()
        ]
        return self.perturb(parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1))

    # -- of an adapter that serves several tasks -------------------------------------------------------------------

    def member(self, name: str) -> AdapterModule | None:
        """Return what this adapter computes here for one of its members, the same module each time; or ``None``."""
        return None

    def exported(self) -> dict[str, Tensor]:
        """Return the weights, by name, with which a module of `AdapterConfig.exported` computes the same."""
        raise NotImplementedError(f"{type(self).__name__} has no other form")


def _parameters(module: nn.Module) -> list[Tensor]:
    """As ``list(module.parameters())``; quicker, for it is asked for at each call of a bank."""
    found: list[Tensor] = [p for p in module._parameters.values() if p is not None]
    for child in module._modules.values():
        if child is not None:
            found += _parameters(child)
    return found


def cast(weight: Tensor | None, like: Tensor) -> Any:
    """The weight in the dtype of the base's activations, in which it is computed (``None`` stays ``None``)."""
    return weight if weight is None or weight.dtype == like.dtype else weight.to(like.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterConfig(Options):
    """Base of every method's configuration: pure data, JSON both ways.

    Attributes:
        norms: ``"base"``, or ``"own"``: the adapter owns and trains a copy of every norm of the base (Houlsby et al.).
        norms_alone: Whether the method is made of norms and has no module at a site.
        dtype: Name of the dtype of the trained weights, ``"float32"`` or another; they are computed in the base's.

    Example:
        >>> config = gw.Pfeiffer(reduction_factor=8)
        >>> isinstance(config, gw.AdapterConfig), gw.config_from_dict(config.to_dict()) == config
        (True, True)
    """

    method: ClassVar[str] = ""
    norms_alone: ClassVar[bool] = False

    norms: str = "base"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        one_of(self, "norms", ("base", "own"))
        floating(self, "dtype")

    def _settle_whole(self, *fields: str, low: float = 1, high: float = math.inf) -> None:
        """Check options that are whole numbers, and write them as `int`."""
        for field in fields:
            within(self, field, low, high, whole=True)
            object.__setattr__(self, field, int(getattr(self, field)))

    @property
    def display_name(self) -> str:
        """The method's name in tables."""
        return self.method

    @property
    def made_of(self) -> tuple[AdapterConfig, ...]:
        """The configurations that one adapter is made of: this one alone, or the parts of a union."""
        return (self,)

    @property
    def injected(self) -> Mapping[str, AdapterConfig]:
        """Those that another library puts into the model (`Peft`), by the prefix of their weights' names in a file."""
        return {}

    @property
    def at_projections(self) -> bool:
        """Whether it is put at projections, which are looked at for such a method alone: a model has hundreds."""
        return False

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the trained weights."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    @property
    def members(self) -> tuple[str, ...]:
        """The tasks that one adapter of this method serves, by name; empty where it serves one that needs no name.

        With members `shared` returns a `graftwork.methods.layers.members.MemberWeights`.
        """
        return ()

    def with_members(self, members: Sequence[str]) -> AdapterConfig:
        """Return the same configuration with other members.

        Raises:
            ConfigError: If the method has none, or one cannot be a name.
        """
        raise ConfigError(f"{type(self).__name__} has no members: add an adapter for each task")

    def exported(self) -> AdapterConfig:
        """Return the configuration of the plain adapter that computes the same as one of this method.

        Raises:
            ConfigError: If there is none.
        """
        raise ConfigError(f"{type(self).__name__} is no adapter that is made of other weights; save it as it is")

    def shared(self, places: Sequence[Place]) -> nn.Module | None:
        """Make what the sites of one adapter have in common, once for each adapter; ``None`` where that is nothing.

        Args:
            places: Every place of the model, those too where the method puts nothing.
        """
        return None

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        """Return the module for one place, or ``None`` where this method puts none.

        Args:
            place: The place.
            shared: What `shared` returned; the module refers to it (``AdapterModule(shared=...)``) and does not register it.

        Raises:
            ConfigError: If an option does not fit the place (a size that does not divide the width, a layer that does
                not exist).
        """
        raise NotImplementedError

    def norm_for(self, norm: nn.Module, place: NormPlace, shared: nn.Module | None = None) -> nn.Module | None:
        """Return what replaces a norm of the base while the adapter is active, ``None`` for the norm itself.

        By default a copy where `norms` is ``"own"``. See `graftwork.methods.layers.norms`.

        Args:
            norm: The base's norm; it may be copied, not changed.
            place: Where it is, and what the model's forward takes.
            shared: What `shared` returned; the stand-in refers to it (``NormModule(shared=...)``).

        Raises:
            ConfigError: If an option does not fit the norm or the model.
        """
        return copy.deepcopy(norm) if self.norms == "own" else None

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        """Refuse options that name layers which the model does not have: ``layers`` maps each stack to their numbers."""

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON values, with the method's name under ``"method"``."""
        return {"method": self.method, **{f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}}
