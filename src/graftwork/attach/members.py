"""Members of an adapter: adding one, removing one, and copying one to a plain adapter."""

from __future__ import annotations

import copy
from typing import NamedTuple

from torch import nn

from graftwork.attach import building
from graftwork.attach.named_heads import OwnHead, head_copy
from graftwork.attach.norms import norms_at
from graftwork.attach.state import ModelState
from graftwork.compose import names_in
from graftwork.errors import CompositionError, ConfigError
from graftwork.methods import AdapterConfig, AdapterModule
from graftwork.methods.layers.members import SEPARATOR, MemberWeights, check_member
from graftwork.weights.names import check_new, full_name, parted, unknown


def shared_by_members(state: ModelState, adapter: str) -> MemberWeights:
    """The module with the weights that all members of an adapter share and that each has alone."""
    shared = state.shared_of(adapter)
    if not isinstance(shared, MemberWeights):
        raise ConfigError(f"{adapter!r} has no members: add an adapter for each task")
    return shared


def added_member(state: ModelState, adapter: str, member: str, like: str | None) -> tuple[AdapterConfig, str | None]:
    """Add the weights of a member; returns the adapter's configuration with it, and the name whose head is copied for it."""
    config = state.adapter_config(adapter)
    shared = shared_by_members(state, adapter)
    check_member(f"add_member({adapter!r}, {member!r})", member)
    check_new(full_name(adapter, member), state, "a member")
    source = None if like is None else like.removeprefix(f"{adapter}{SEPARATOR}")
    if source is not None and source not in shared.names:
        raise unknown(source, shared.names, f"member of {adapter!r}")
    if len(shared.names) == 1:
        why = f"which of two {adapter!r} would mean; say {full_name(adapter, shared.names[0])!r} there"
        _refuse_in_use(state, adapter, why)
    head = state.head_for(adapter if source is None else full_name(adapter, source))
    shared.add(member, source).requires_grad_(False)
    return config.with_members(shared.names), head


def dropped_member(state: ModelState, full: str) -> AdapterConfig:
    """Remove the weights of a member; returns the adapter's configuration without it."""
    adapter, member = parted(full)
    shared = shared_by_members(state, adapter)
    _refuse_in_use(state, full, "and would be gone; choose another composition first")
    if len(shared.names) == 1:
        raise CompositionError(f"{full!r} is the last member of {adapter!r}; remove({adapter!r}) removes the adapter")
    shared.drop(member)
    return state.adapter_config(adapter).with_members(shared.names)


class Exported(NamedTuple):
    """A new adapter that is made of others and not added yet."""

    config: AdapterConfig
    modules: dict[int, AdapterModule]
    norms: dict[int, nn.Module]
    head: OwnHead | None


def exported(state: ModelState, what: str, name: str) -> Exported:
    """A plain adapter that computes the same as ``what``; see `graftwork.attach.combining.Combining.materialize`."""
    check_new(name, state, "an adapter")
    state.require_adapter(what)
    owner, full = state.owner_of(what), state.sole(what)
    config = state.adapter_config(owner).exported()
    modules = building.build(state.model, state.sites, config).modules
    sources = state.adapter_modules(full)
    for index, module in modules.items():
        module.load_state_dict(sources[index].exported())
    norms = {index: copy.deepcopy(norm) for index, norm in norms_at(state.model, state.sites, owner).items()}
    return Exported(config, modules, norms, head_copy(state, state.head_for(what)))


def _refuse_in_use(state: ModelState, name: str, why: str) -> None:
    """Refuse to change what a name means while it is active or in the pool of a fusion."""
    if name in names_in(state.runtime.active) or name in state.active_heads:
        raise CompositionError(f"{name!r} is active, {why}")
    for fusion, pool in state.fusions.items():
        if name in names_in(pool):
            raise CompositionError(f"{name!r} is in the pool of the fusion {fusion!r}, {why}")
