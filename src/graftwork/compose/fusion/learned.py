"""The contract of the blocks that learn how to combine: `Fuse` and its kin.

A learned block has a name, and weights under it at every site where one of its pool stands. What a kind of block is made of is
registered here once, by the block's kind: the configuration (a frozen dataclass, JSON both ways) whose `LearnedConfig.build` makes
one `LearnedModule` for one site, and the node that computes the block with it. The layers above ask for no kind: adding, learning,
saving and loading are the same for all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from graftwork.compose.blocks import Composition, Learned
from graftwork.compose.nodes import Node
from graftwork.errors import CompositionError, ConfigError
from graftwork.methods import Place
from graftwork.options import Options, floating

C = TypeVar("C", bound="LearnedConfig")


class LearnedModule(nn.Module):
    """The weights of one learned block at one site.

    Tensors that its sites have in common are registered once, in the root of the model, and only referred to here: they are no
    parameters of this module, and `weights` has them.

    Attributes:
        pool: The children that it was made for, in order: weights that belong to a child are kept in this order.
        shared: What `LearnedConfig.shared` made for all sites of the block, or ``None``.
        reads: The site's tensor that it decides by, beside what its children read; ``None`` where it reads nothing.
        trainable: Whether it is being trained. Randomness is on only while it is and the module is in training mode.
        across_sites: Whether it decides for several sites at once, so that its pool need not meet at any of them.
    """

    across_sites: bool = False
    shared: nn.Module | None

    def __init__(
        self, *, pool: Sequence[Composition] = (), reads: str | None = None, shared: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.__dict__["shared"] = shared  # past nn.Module's bookkeeping, as in AdapterModule
        self.pool = tuple(pool)
        self.reads = reads
        self.trainable = False

    def set_trainable(self, trainable: bool) -> None:
        """Say whether it is being trained."""
        self.trainable = trainable

    def weights(self) -> list[Tensor]:
        """Every weight that it computes with: its own, and those shared by its sites."""
        return [*self.parameters(), *(() if self.shared is None else self.shared.parameters())]

    def places(self, block: Learned) -> list[int]:
        """For each child of a block its place in the pool that the weights are made for.

        Raises:
            CompositionError: If a child is not in the pool.
        """
        free = list(range(len(self.pool)))
        found = []
        for child in block.children:
            place = next((n for n in free if self.pool[n] == child), None)
            if place is None:
                raise CompositionError(
                    f"{block!r}: {block.name!r} has no weights for {child!r}; its pool is "
                    f"{', '.join(map(repr, self.pool))}, and each of these has weights of its own: name children of the pool, or "
                    "add another of another name"
                )
            free.remove(place)
            found.append(place)
        return found

    def regularization_loss(self) -> Tensor | None:
        """A term of the loss that depends on the weights alone, a scalar; ``None`` where there is none."""
        return None

    def on_optimizer_step(self) -> None:
        """One optimiser step further on a schedule of the block's own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedConfig(Options):
    """Base of the configurations of learned blocks: pure data, JSON both ways.

    Attributes:
        dtype: Name of the dtype of the weights.
    """

    dtype: str = "float32"

    def __post_init__(self) -> None:
        floating(self, "dtype")

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def shared(self, block: Learned, places: Sequence[Place]) -> nn.Module | None:
        """What the sites of one block have in common, made once for each block; ``None`` where that is nothing.

        Args:
            block: The block with its pool.
            places: The places where one of its pool stands.
        """
        return None

    def build(self, block: Learned, place: Place, shared: nn.Module | None = None) -> LearnedModule:
        """The weights at one place.

        Args:
            block: The block with its pool.
            place: The place.
            shared: What `shared` made; the module refers to it and does not register it.

        Raises:
            ConfigError: If an option does not fit the pool or the place.
        """
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls: type[C], data: Mapping[str, Any]) -> C:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: If an option is unknown or refused.
        """
        return cls(**data)


class MakeNode(Protocol):
    """What makes the node of a learned block at one site."""

    def __call__(self, block: Any, children: Sequence[Node | None], module: Any, site: str) -> Node:
        """The node; ``children`` are those of the block, in order, ``None`` for one that adds nothing at the site."""


_KINDS: dict[str, tuple[type[LearnedConfig], MakeNode]] = {}


def register(block: type[Learned], config: type[LearnedConfig], node: MakeNode) -> None:
    """Say what a kind of learned block is made of."""
    _KINDS[block.kind] = config, node


def config_class(block: Learned) -> type[LearnedConfig]:
    """The configuration's class of a block."""
    return _KINDS[block.kind][0]


def config_for(block: Learned, config: LearnedConfig | None) -> LearnedConfig:
    """The configuration given, or the default one.

    Raises:
        ConfigError: If it is that of something else.
    """
    wanted = config_class(block)
    config = wanted() if config is None else config
    if not isinstance(config, wanted):
        raise ConfigError(
            f"add_fusion({block!r}, {config!r}): that is no configuration of it; give gw.{wanted.__name__}(...)"
        )
    return config


def learned_node(block: Learned, children: Sequence[Node | None], module: LearnedModule, site: str) -> Node:
    """The node of a block at one site."""
    return _KINDS[block.kind][1](block, children, module, site)
