"""What is trained: which weights require a gradient, and whose dropout is on."""

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
from graftwork.weights.sharded import refuse_shards

BASES = ("frozen", "norms", "trained")


def trainable_names(
    state: ModelState, what: Composition | Sequence[str]
) -> tuple[tuple[str, ...], tuple[Composition, ...]]:
    """The names that are trained, and the composition that is active by default, if there is one.

    A `Fuse` or another trainable block means its own weights, not those of its pool; any other block means all adapters and
    fusions in it.
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
        default = names if len(names) == 1 else ()
    for name in names:
        state.require(name)
    return names, default


def refuse_untrainable(state: ModelState, what: object, names: Sequence[str], base: str) -> None:
    """Refuse to train weights of a base that is offloaded, and to train through quantised layers without gradients."""
    if base != "frozen" or (not names and state.head_paths):
        refuse_trained(state.model, f"train_only({what!r}, base={base!r})")
        refuse_shards(state.model, f"train_only({what!r}, base={base!r})")
    if base != "frozen" or set(names) - set(state.lone_heads):
        refuse_without_gradients(state.model, f"train_only({what!r})")


def set_trainable(state: ModelState, names: Sequence[str], base: str) -> None:
    """Set ``requires_grad`` of every weight and `trainable` of every module."""
    reclaim(state.model)
    state.model.requires_grad_(False)
    if base == "trained":
        for p, flag in state.original_flags:
            p.requires_grad_(flag)
    elif base == "norms":
        for path in state.sites.norms:
            _train(state.model.get_submodule(path))
    for name in (*state.names, *state.fusions, *state.members):
        trained = name in names or state.owner_of(name) in names
        for module in state.modules_of(name).values():
            module.set_trainable(trained)
    for name in names:
        for part in _parts(state, name):
            _train(part)
    if not names:
        shared = shared_weights(state.model)
        for path in state.head_paths:
            for p in state.model.get_submodule(path).parameters():
                p.requires_grad_(id(p) not in shared)


def warn_of_unclear_heads(state: ModelState, what: Composition | Sequence[str]) -> None:
    """Warn of frozen weights that may be a head: a new one would keep its random weights."""
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
            f"train_only({what!r}): {', '.join(frozen)} of this {kind} does not learn, and all adapters share it. If a new head is "
            "in there, name its modules, and each adapter gets a copy that is trained: gw.attach(model, heads=[...]); to train a "
            "parameter for all adapters, call requires_grad_(True) on it after train_only; heads=() means that there is no head",
            UserWarning,
            stacklevel=3,
        )


def _parts(state: ModelState, name: str) -> list[nn.Module]:
    """The modules that are trained with a name: of an adapter with its norms and its members' heads, of a member its own."""
    heads = list(state.head_of(name).values())
    kind = state.kind_of(name)
    if kind == "member":
        adapter, member = parted(name)
        return [shared_by_members(state, adapter).of(member), *heads]
    shared = state.shared_of(name)
    parts = [*state.modules_of(name).values(), *heads, *([] if shared is None else [shared])]
    if kind == "adapter":
        parts += state.norms_of(name).values()
        parts += [head for member in state.members_of(name) for head in state.head_of(member).values()]
    return parts


def _train(module: nn.Module) -> None:
    for p in module.parameters():
        if p.is_floating_point():
            p.requires_grad_(True)
