"""Members of an adapter in a model: adding one, taking one out, and writing one out as an adapter of its own."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from graftwork.attach import building
from graftwork.attach.named_heads import OwnHead
from graftwork.attach.names import check_new, parted, unknown
from graftwork.attach.norms import norm_finders
from graftwork.compose import names_in
from graftwork.errors import CompositionError, ConfigError
from graftwork.methods.members import SEPARATOR, MemberWeights, check_member

if TYPE_CHECKING:
    from graftwork.attach.registry import Registry


def full_name(adapter: str, member: str) -> str:
    """How compositions call a member."""
    return f"{adapter}{SEPARATOR}{member}"


def shared_by_members(registry: Registry, adapter: str) -> MemberWeights:
    """What the members of an adapter have in common."""
    shared = registry.shared_of(adapter)
    if not isinstance(shared, MemberWeights):
        raise ConfigError(f"{adapter!r} has no members: add an adapter for each task")
    return shared


def add_member(registry: Registry, adapter: str, member: str, like: str | None) -> str:
    """See `graftwork.attach.registry.Registry.add_member`."""
    registry._require_plain(adapter)
    shared = shared_by_members(registry, adapter)
    check_member(f"add_member({adapter!r}, {member!r})", member)
    full = full_name(adapter, member)
    check_new(full, registry, "a member")
    source = None if like is None else like.removeprefix(f"{adapter}{SEPARATOR}")
    if source is not None and source not in shared.names:
        raise unknown(source, shared.names, f"member of {adapter!r}")
    if len(shared.names) == 1:
        _refuse_in_use(
            registry, adapter, f"which of two {adapter!r} would mean; say {full_name(adapter, shared.names[0])!r} there"
        )
    head = registry.head_for(adapter if source is None else full_name(adapter, source))
    shared.add(member, source).requires_grad_(False)
    _say(registry, adapter, shared)
    if head is not None:
        registry._give_head(full, None, head)
    registry.replan()
    return full


def drop_member(registry: Registry, full: str) -> None:
    """Take a member out, its head too.

    Raises:
        CompositionError: If it is active, in a fusion's pool, or the last one.
    """
    adapter, member = parted(full)
    shared = shared_by_members(registry, adapter)
    _refuse_in_use(registry, full, "and would be gone; choose another composition first")
    if len(shared.names) == 1:
        raise CompositionError(f"{full!r} is the last member of {adapter!r}; remove({adapter!r}) takes the whole out")
    shared.drop(member)
    _say(registry, adapter, shared)
    registry._forget_head(full)
    registry.replan()


def export(registry: Registry, what: str, name: str) -> None:
    """See `graftwork.attach.registry.Registry.export`."""
    check_new(name, registry, "an adapter")
    registry._require_adapter(what)
    owner, full = registry.owner_of(what), registry.sole(what)
    config = registry._adapters[owner].exported()
    modules = building.build(registry.model, registry.sites, config).modules
    for index, module in modules.items():
        source = registry._site_modules[index].adapter(full)
        assert source is not None
        module.load_state_dict(source.exported())
    finders, _ = norm_finders(registry.model, registry.sites)
    found = {index: find(owner) for index, find in finders.items()}
    norms = {index: copy.deepcopy(norm) for index, norm in found.items() if norm is not None}
    head, source_head = None, registry.head_for(what)
    if source_head is not None:
        copied = building.copy_head(registry.model, registry.head_of(source_head))
        head = OwnHead(copied, registry._labels[source_head], registry.head_config(source_head))
    registry.adopt(name, config, modules, norms, head)


def _say(registry: Registry, adapter: str, shared: MemberWeights) -> None:
    config = registry._adapters[adapter].with_members(shared.names)
    registry._adapters = {**registry._adapters, adapter: config}


def _refuse_in_use(registry: Registry, name: str, why: str) -> None:
    """Refuse while a name is active or in the pool of a fusion.

    Raises:
        CompositionError: If it is.
    """
    if name in names_in(registry.runtime.active) or name in registry._active_heads():
        raise CompositionError(f"{name!r} is active, {why}")
    for fusion, pool in registry.fusions.items():
        if name in names_in(pool):
            raise CompositionError(f"{name!r} is in the pool of the fusion {fusion!r}, {why}")
