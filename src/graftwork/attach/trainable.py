"""What learns: which weights ask for a gradient, and whose dropout is on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import nn

from graftwork.attach.members import shared_by_members
from graftwork.attach.model_head import shared_weights
from graftwork.attach.state import ModelState
from graftwork.compose import Block, Composition, Learned, fusions_in, names_in
from graftwork.weights.holder import reclaim
from graftwork.weights.names import parted
from graftwork.weights.offload import refuse_trained
from graftwork.weights.quantised import refuse_without_gradients

BASES = ("frozen", "norms", "trained")


def trainable_names(
    state: ModelState, what: Composition | Sequence[str]
) -> tuple[tuple[str, ...], tuple[Composition, ...]]:
    """The names that learn, and what is active by default: one composition, or nothing where that must be said.

    A `Fuse`, or another block that learns, means its own weights, not those of its pool; any other block means every adapter
    and fusion in it.

    Raises:
        UnknownNameError: If something is not there.
    """
    default: tuple[Composition, ...] = (what,) if what is None or isinstance(what, (str, Block)) else ()
    if what is None:
        names: tuple[str, ...] = ()
    elif isinstance(what, str):
        names = (what,)
    elif isinstance(what, Learned):
        names = (what.name,)
    elif isinstance(what, Block):
        names = (*names_in(what), *(f.name for f in fusions_in(what)))
    else:
        names = tuple(what)
        default = names[:1] if len(names) == 1 else ()
    for name in names:
        state.require(name)
    return names, default


def refuse_untrainable(state: ModelState, what: object, names: Sequence[str], base: str) -> None:
    """Refuse what could not learn, or would learn by a part of its gradients.

    Raises:
        AttachError: If weights of the base are to learn and are offloaded, or quantised layers give no gradients back.
    """
    if base != "frozen" or (not names and state.head_paths):
        refuse_trained(state.model, f"train_only({what!r}, base={base!r})")
    if base != "frozen" or set(names) - set(state.lone_heads):
        refuse_without_gradients(state.model, f"train_only({what!r})")


def set_trainable(state: ModelState, names: Sequence[str], base: str) -> None:
    """Set every weight's gradient flag and whether every module is `trainable`."""
    reclaim(state.model)
    for p in state.model.parameters():
        p.requires_grad_(False)
    if base == "trained":
        for p, flag in state.original_flags:
            p.requires_grad_(flag)
    elif base == "norms":
        for path in state.sites.norms:
            _learn(state.model.get_submodule(path))
    known = (*state.names, *state.fusions)
    for name in known:
        for module in state.modules_of(name).values():
            module.set_trainable(name in names)
            if name in names:
                _learn(module)
    for member in state.members:
        for module in state.modules_of(member).values():
            module.set_trainable(member in names or state.owner_of(member) in names)
    for name in names:
        if name in state.members:
            adapter, member = parted(name)
            _learn(shared_by_members(state, adapter).of(member))
        else:
            _learn_whole(state, name)
        for head in state.head_of(name).values():
            _learn(head)
    if not names:
        shared = shared_weights(state.model)
        for path in state.head_paths:
            for p in state.model.get_submodule(path).parameters():
                p.requires_grad_(id(p) not in shared)


def warn_of_unclear_heads(state: ModelState, what: Composition | Sequence[str]) -> None:
    """Say which weights stay frozen that may be a head: one that begins with random weights would stay random."""
    frozen = []
    for path in state.unclear_heads:
        parent, _, name = path.rpartition(".")
        own = state.model.get_submodule(parent)._parameters.get(name)
        inside = [own] if own is not None else list(state.model.get_submodule(path).parameters())
        if not any(p.requires_grad for p in inside):
            frozen.append(path)
    if frozen:
        kind = type(state.model).__name__
        warnings.warn(
            f"train_only({what!r}): {', '.join(frozen)} of this {kind} does not learn, and all adapters share it. If there is "
            "a new head of a task in there, say which modules "
            "it is, and each adapter owns a copy that learns: gw.attach(model, heads=[...]); a parameter that learns for all is "
            "set by requires_grad_(True) after train_only; heads=() says that there is no head",
            UserWarning,
            stacklevel=3,
        )


def _learn_whole(state: ModelState, name: str) -> None:
    """What the sites share, an adapter's norms, its members' heads; the modules at the sites learn already."""
    common = state.shared_of(name)
    if common is not None:
        _learn(common)
    if name not in state.names:
        return
    heads = [head for member in state.members_of(name) for head in state.head_of(member).values()]
    for module in (*state.norms_of(name).values(), *heads):
        _learn(module)


def _learn(module: nn.Module) -> None:
    for p in module.parameters():
        if p.is_floating_point():
            p.requires_grad_(True)
