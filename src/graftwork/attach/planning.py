"""From a composition to its plan, or a new fusion, in one model: names are looked up here; what cannot be computed is refused."""

from __future__ import annotations

from collections.abc import Sequence

from graftwork.attach import building
from graftwork.attach.base_merge import refuse_twice
from graftwork.attach.norms import norm_finders
from graftwork.attach.state import ModelState
from graftwork.compose import Block, Composition, Learned, LearnedConfig, LearnedModule, fusions_in, names_in
from graftwork.compose.tree import refuse_unweighable
from graftwork.errors import CompositionError
from graftwork.forward.heads_in_use import OWN, Labels, SeveralHeads, heads_in_use, labelled
from graftwork.forward.model_with_heads import ModelWithHeads
from graftwork.forward.plan import Plan, make_plan, refuse_rows
from graftwork.methods import AdapterModule
from graftwork.weights.names import check_new, unknown


def named_block(state: ModelState, composition: Composition) -> Composition:
    """A composition, with a fusion's block in the place of its name.

    Raises:
        CompositionError: If it is none.
    """
    if composition is not None and not isinstance(composition, (str, Block)):
        raise CompositionError(f"{composition!r} is no composition; give an adapter's name, None, or a block")
    pool = state.pool_of(composition) if isinstance(composition, str) else None
    return composition if pool is None else pool


def plan_of(state: ModelState, composition: Composition, head: str | Sequence[str] | None = OWN) -> Plan | None:
    """The plan of a composition in a model, ``None`` where nothing is to be computed.

    Raises:
        UnknownNameError: If something in it is not there.
        CompositionError: If it cannot be computed.
    """
    if composition is None and head in (None, OWN):
        return None
    if state.in_base is not None:
        refuse_twice(state, composition)
    for name in names_in(composition):
        state.require_adapter(name)
    for fuse in fusions_in(composition):
        there = state.pool_of(fuse.name)
        if there is None:
            raise unknown(fuse.name, state.fusions, "fusion", f"call add_fusion({fuse!r}) or load it first")
        if there.kind != fuse.kind:
            raise CompositionError(f"{fuse!r}: {fuse.name!r} is a {type(there).__name__}; it was added as {there!r}")
    injected = state.peft_adapters.active_in(composition)
    norms, modules = norm_finders(state.model, state.sites)
    plan = make_plan(composition, state.sites, state.site_modules, norms, modules)
    plan.injected, plan.prompt = injected, state.peft_adapters.prompt_in(composition)
    if plan.prompt is not None:
        plan.prompt.prepare(plan)
    refuse_rows(plan, state.model, state.sites)
    plan.looked_up = building.looked_up(state.model, state.sites, {*plan.branch, *plan.stream})
    chosen = heads_in_use(composition, head, state.head_labels, state.head_for)
    if isinstance(state.model, ModelWithHeads):
        plan.named_heads = chosen
        return plan
    if isinstance(chosen, SeveralHeads):
        raise CompositionError(
            f"the heads {list(chosen.names)} at once: one {type(state.model).__name__} gives one output; attach to "
            "gw.ModelWithHeads(base) for several"
        )
    known: dict[str | None, Labels] = {None: state.own_labels}
    known.update(state.head_labels)
    plan.labels = labelled(chosen, known)
    for path in state.head_paths:
        program = building.head_stand_ins(chosen, path, state.head_of)
        if program is not None:
            plan.heads[path] = program
    return plan


def new_fusion(state: ModelState, block: Learned, config: LearnedConfig) -> dict[int, LearnedModule]:
    """The modules of a new fusion, by the place of their site in the map.

    Raises:
        CompositionError: If the pool names what is not there, or an adapter that cannot be weighed.
        NameTakenError: If the name is taken.
    """
    check_new(block.name, state, "a fusion")
    for child in names_in(block):
        state.require_adapter(child)
    for inner in fusions_in(block)[1:]:
        state.require(inner.name)
    for child in names_in(block):
        for key, module in state.modules_of(child).items():
            if isinstance(module, AdapterModule):
                refuse_unweighable(block, child, key, module)
    present = [n for n, here in state.site_modules.items() if any(here.adapter(child) for child in names_in(block))]
    return building.build_fusion(state.model, state.sites, present, block, config)
