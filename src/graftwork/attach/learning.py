"""What learns: which weights ask for a gradient, and whose dropout is on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from graftwork.compose import Block, Composition, Fuse, fusions_in, names_in
from graftwork.errors import ConfigError

if TYPE_CHECKING:
    from graftwork.attach.handle import Handle

BASES = ("frozen", "norms", "trained")


def learners(handle: Handle, what: Composition | Sequence[str]) -> tuple[tuple[str, ...], Composition]:
    """The names that learn, and the composition that is active by default.

    A `Fuse` means its own weights, not those of its pool; any other block means every adapter and fusion in it.
    """
    if what is None:
        return (), None
    if isinstance(what, str):
        handle._require(what)
        return (what,), what
    if isinstance(what, Fuse):
        return (what.name,), what
    if isinstance(what, Block):
        return (*names_in(what), *(f.name for f in fusions_in(what))), what
    names = tuple(what)
    for name in names:
        handle._require(name)
    if len(names) != 1:
        raise ConfigError(f"train_only({list(names)!r}): several learn; give active= the composition that is active meanwhile")
    return names, names[0]


def set_learning(handle: Handle, names: Sequence[str], base: str) -> None:
    """Set every weight's gradient flag and every module's `learning`.

    Raises:
        ConfigError: If ``base`` is not one of `BASES`.
    """
    if base not in BASES:
        raise ConfigError(f"base is {base!r}; it must be one of {', '.join(BASES)}")
    for name in names:
        handle._require(name)
    for p in handle.model.parameters():
        p.requires_grad_(False)
    if base == "trained":
        for p, flag in handle._flags:
            p.requires_grad_(flag)
    elif base == "norms":
        for path in handle.sites.norms:
            _learn(handle.model.get_submodule(path))
    known = (*handle.names, *handle.fusions)
    for name in known:
        for module in handle.modules_of(name).values():
            module.learning = name in names
            if name in names:
                _learn(module)
    for name in names:
        if name in handle.names:
            for norm in handle.norms_of(name).values():
                _learn(norm)
        for head in handle.head_of(name).values():
            _learn(head)
    if not names:
        for path in handle.head_paths:
            shared = {id(p) for p, _ in handle._flags if _in_base(handle, p)}
            for p in handle.model.get_submodule(path).parameters():
                p.requires_grad_(id(p) not in shared)


def _in_base(handle: Handle, parameter: nn.Parameter) -> bool:
    from graftwork.attach.heads import shared_weights

    return id(parameter) in shared_weights(handle.model)


def _learn(module: nn.Module) -> None:
    for p in module.parameters():
        if p.is_floating_point():
            p.requires_grad_(True)
