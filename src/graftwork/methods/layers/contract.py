"""The contract between a method and everything above it.

An adapter is a small module that reads one tensor at a site and adds to the residual stream. A *method* says how that
module is made: a configuration (a frozen dataclass, pure data, JSON both ways) whose `AdapterConfig.build` makes one
`AdapterModule` for one site. The layers above never look inside: they ask a module what it reads, where it writes, and
whether it can be *banked*.

A banked adapter is features followed by a linear readout,

    A(h) = g · (U a(h) + c),      a(h) = [φ_1(D_1 h + b_1) ; φ_2(D_2 h + b_2) ; …]

so that N of them run as two products with stacked weights and a composition can mix the narrow features instead of
N full-width outputs. Everything else gives outputs only, and composes by them: the same laws, plain speed.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.activations import activation
from graftwork.methods.layers.norms import NormPlace
from graftwork.options import Options, floating, one_of
from graftwork.sites import Site

Read = Literal["residual", "input", "output", "stream", "normed", "layer_input"]
Write = Literal["branch", "stream"]
READS: tuple[str, ...] = get_args(Read)
WRITES: tuple[str, ...] = get_args(Write)
HIDDEN = "hidden:"  # and the number of a layer: the stream as it enters that layer


class Context(Protocol):
    """What a module may know beside the tensor it reads."""

    def padding_mask(self, read: Tensor) -> Tensor | None:
        """``(batch, positions)``, true where a position is not padding; ``None`` where nothing is known."""

    def add_loss(self, loss: Tensor) -> None:
        """Add a scalar to the loss of this forward pass; for an adapter that learns, in training mode.

        Raises:
            AttachError: If it is made without gradients though the model learns (reentrant checkpointing).
        """


@dataclasses.dataclass(frozen=True)
class Place:
    """What a configuration knows of the place it builds for.

    Attributes:
        site: The site.
        layers: Number of layers of the site's stack.
        causal: Whether later positions are hidden from earlier ones there (a decoder).
        block_kinds: The kinds of branches that the layer has.
    """

    site: Site
    layers: int
    causal: bool = False
    block_kinds: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Segment:
    """One run of features ``φ(D h + b)``: ``down`` is ``(rank, width)``, ``bias`` ``(rank,)`` or ``None``."""

    down: Tensor
    bias: Tensor | None
    activation: str


class AdapterModule(nn.Module):
    """One adapter at one site.

    Subclasses set `reads` and `writes`, and define `forward`. A banked one (`banked` true) defines `segments` and
    `readout` instead, and may define `prepare` and `gain`.

    Tensors that the sites of an adapter have in common are registered once, in the root of the model, and only referred
    to here: they are no parameters of this module, and `weights` has them.

    Attributes:
        shared: What `AdapterConfig.shared` made for all sites of the adapter, or ``None``.
        reads: Which tensor of the site `forward` is given.
        writes: ``"branch"`` (y ← y + δ) or ``"stream"`` (after the site's norm).
        trainable: Whether this adapter is being trained. Randomness (dropout, stochastic depth) is on only while it is
            and the module is in training mode: a frozen adapter in a fusion is a fixed function.
        also_reads: What `forward` is given behind the context: other tensors of the site, and hidden states such as
            ``"hidden:0"``, the stream as it enters the layer of that number. Only the site of kind ``layer`` at the end of a
            stack has these.
        has_randomness: Whether the method has any.
        unweighable: Why its addition cannot be weighed against others, with the way out; ``None`` where it can.
        mixes_positions: Whether an output position depends on other positions.
        causal: Whether it stands in a decoder (`Place.causal`). One that mixes positions there is refused where a key/value
            cache keeps the earlier ones back.
        dimension: The dimension of features that it mixes: the last, or 1 where it stands at images.
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

    @property
    def parts(self) -> Mapping[int, AdapterModule]:
        """The modules that add up to this one, by the number of their configuration in `AdapterConfig.made_of`."""
        return {0: self}

    def set_trainable(self, trainable: bool) -> None:
        """Say whether this adapter is being trained."""
        self.trainable = trainable

    def writing(self, where: str) -> AdapterModule | None:
        """What of it is written into the ``"branch"`` or the ``"stream"``, the same module each time; ``None`` for nothing."""
        return self if self.writes == where else None

    def weights(self) -> list[Tensor]:
        """Every weight that this adapter is computed with: its own, and those shared by its sites."""
        return [*self.parameters(), *(() if self.shared is None else self.shared.parameters())]

    @property
    def random(self) -> bool:
        """Whether randomness is at work now."""
        return self.has_randomness and self.trainable and self.training

    @property
    def banked(self) -> bool:
        """Whether this adapter is features and a linear readout."""
        return False

    @property
    def foldable(self) -> bool:
        """Whether features depend on the plain read alone, so that weights around them can be multiplied out."""
        return False

    def segments(self) -> tuple[Segment, ...]:
        """The features' weights, in the order in which `readout` takes the features."""
        raise NotImplementedError(f"{type(self).__name__} composes by its outputs")

    def readout(self) -> tuple[Tensor, Tensor | None]:
        """``U (width, rank)`` and ``c (width,)`` or ``None``, the adapter's own scale multiplied in."""
        raise NotImplementedError(f"{type(self).__name__} composes by its outputs")

    def member(self, name: str) -> AdapterModule | None:
        """What this adapter computes here for one of its members, the same module each time; ``None`` without that one."""
        return None

    def exported(self) -> dict[str, Tensor]:
        """The weights, by name, with which a module made by `AdapterConfig.exported` computes the same."""
        raise NotImplementedError(f"{type(self).__name__} has no other form")

    def prepare(self, read: Tensor) -> Tensor:
        """What is done to the read before the features: a norm of the adapter's own, or nothing."""
        return read

    def perturb(self, features: Tensor) -> Tensor:
        """Dropout on the features ``(batch, positions, rank)``, where the method has one."""
        return features

    def gain(self, read: Tensor, context: Context) -> Tensor | None:
        """A factor ``(batch, positions or 1, 1)`` on the whole output, or ``None`` for 1."""
        return None

    def features(self, read: Tensor) -> Tensor:
        """The features ``(batch, positions, rank)`` of one read ``(batch, positions, width)``."""
        prepared = self.prepare(read)
        parts = [
            activation(s.activation)(nn.functional.linear(prepared, cast(s.down, prepared), cast(s.bias, prepared)))
            for s in self.segments()
        ]
        return self.perturb(parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1))

    def forward(self, read: Tensor, context: Context) -> Tensor:
        """The addition δ ``(batch, positions, width)`` for one read of the same shape."""
        features = self.features(read)
        up, constant = self.readout()
        delta = nn.functional.linear(features, cast(up, features), cast(constant, features))
        gain = self.gain(read, context)
        return delta if gain is None else delta * gain.to(delta.dtype)


def cast(weight: Tensor | None, like: Tensor) -> Any:
    """The weight in the dtype it is computed in, that of the base's activations (``None`` stays ``None``)."""
    return weight if weight is None or weight.dtype == like.dtype else weight.to(like.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterConfig(Options):
    """Base of every method's configuration: pure data, JSON both ways.

    Attributes:
        norms: ``"base"``, or ``"own"``: the adapter owns and trains a copy of every norm of the base (Houlsby et al.).
        norms_alone: Whether the method is made of norms and stands at no site.
        dtype: Name of the dtype of the trained weights, ``"float32"`` or another; they are computed in the base's.
    """

    method: ClassVar[str] = ""
    norms_alone: ClassVar[bool] = False

    norms: str = "base"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        one_of(self, "norms", ("base", "own"))
        floating(self, "dtype")

    @property
    def display_name(self) -> str:
        """What tables call the method."""
        return self.method

    @property
    def made_of(self) -> tuple[AdapterConfig, ...]:
        """The configurations that one adapter is at once: this one alone, or the parts of a union."""
        return (self,)

    @property
    def injected(self) -> Mapping[str, AdapterConfig]:
        """Those that another library puts into the model (`Peft`), by what the names of their weights in a file begin with."""
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

        With members `shared` makes a `graftwork.methods.layers.members.MemberWeights`.
        """
        return ()

    def with_members(self, members: Sequence[str]) -> AdapterConfig:
        """The same with other members.

        Raises:
            ConfigError: If the method has none, or one cannot be a name.
        """
        raise ConfigError(f"{type(self).__name__} has no members: add an adapter for each task")

    def exported(self) -> AdapterConfig:
        """The configuration of the plain adapter that one of this method can be written out as.

        Raises:
            ConfigError: If there is none.
        """
        raise ConfigError(f"{type(self).__name__} is no adapter that is made of other weights; save it as it is")

    def shared(self, places: Sequence[Place]) -> nn.Module | None:
        """What the sites of one adapter have in common, made once for each adapter; ``None`` where that is nothing.

        Args:
            places: Every place of the model, those too where the method puts nothing.
        """
        return None

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        """The module for one place, or ``None`` where this method puts none.

        Args:
            place: The place.
            shared: What `shared` made; the module refers to it (``AdapterModule(shared=...)``) and does not register it.

        Raises:
            ConfigError: If an option does not fit the place (a size that does not divide the width, a layer that does
                not exist).
        """
        raise NotImplementedError

    def norm_for(self, norm: nn.Module, place: NormPlace, shared: nn.Module | None = None) -> nn.Module | None:
        """What stands in for a norm of the base while the adapter is active, ``None`` for the norm itself.

        By default a copy where `norms` is ``"own"``. See `graftwork.methods.layers.norms`.

        Args:
            norm: The base's; to be copied, not changed.
            place: Where it is, and what the model's forward takes.
            shared: What `shared` made; the stand-in refers to it (``NormModule(shared=...)``).

        Raises:
            ConfigError: If an option does not fit the norm or the model.
        """
        return copy.deepcopy(norm) if self.norms == "own" else None

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        """Refuse options that name layers which the model does not have: ``layers`` maps each stack to their numbers."""

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values, with the method's name under ``"method"``."""
        plain = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"method": self.method, **plain}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return value
