"""The plan of a composition in a model, and the modules of a new fusion: names are looked up and checked here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from torch import nn

from graftwork.attach import building
from graftwork.attach.base_merge import refuse_twice
from graftwork.attach.norms import norm_finders
from graftwork.attach.state import ModelState
from graftwork.attach.wiring import hook, ports_of
from graftwork.compose import Block, Composition, Learned, LearnedConfig, LearnedModule, fusions_in, names_in
from graftwork.compose.tree import refuse_unweighable
from graftwork.errors import CompositionError
from graftwork.forward.heads_in_use import OWN, SeveralHeads, heads_in_use, labelled
from graftwork.forward.model_with_heads import ModelWithHeads
from graftwork.forward.plan import Plan, make_plan, refuse_rows
from graftwork.forward.shared_trunk import trunk_of
from graftwork.forward.stand_ins import StandIns
from graftwork.methods import AdapterModule
from graftwork.weights.names import check_new, unknown


def named_block(state: ModelState, composition: Composition) -> Composition:
    """The composition, or the block of a fusion that is given by its name."""
    if composition is not None and not isinstance(composition, (str, Block)):
        raise CompositionError(f"{composition!r} is no composition; give an adapter's name, None, or a block")
    if not isinstance(composition, str):
        return composition
    bring(state, composition)  # its pool is not known before
    pool = state.pool_of(composition)
    return composition if pool is None else pool


def bring(state: ModelState, *compositions: Composition) -> None:
    """Load what some compositions name and the model has not yet, where there is a catalogue."""
    if state.source is not None:
        state.source.bring([name for composition in compositions for name in _names_of(composition)])


def plan_of(state: ModelState, composition: Composition, head: str | Sequence[str] | None = OWN) -> Plan | None:
    """The plan of a composition in a model, ``None`` if it is the plain model; refuses what cannot be computed."""
    if composition is None and head in (None, OWN):
        return None
    if state.source is None:
        return _plan_of(state, composition, head)
    names = [*_names_of(composition), *([head] if isinstance(head, str) else head or ())]
    with state.source.holding(names) as held:
        plan = _plan_of(state, composition, head)
        state.source.note(plan, held)
    return plan


def _names_of(composition: Composition) -> list[str]:
    return [*names_in(composition), *(fuse.name for fuse in fusions_in(composition))]


def _plan_of(state: ModelState, composition: Composition, head: str | Sequence[str] | None) -> Plan:
    refuse_twice(state, composition)
    for name in names_in(composition):
        state.require_adapter(name)
    for fuse in fusions_in(composition):
        added = state.pool_of(fuse.name)
        if added is None:
            raise unknown(fuse.name, state.fusions, "fusion", f"call add_fusion({fuse!r}) or load it first")
        if added.kind != fuse.kind:
            raise CompositionError(f"{fuse!r}: {fuse.name!r} is a {type(added).__name__}; it was added as {added!r}")
    injected = state.peft_adapters.active_in(composition)
    norms, modules = norm_finders(state.model, state.sites)
    plan = make_plan(composition, state.sites, state.site_modules, norms, modules)
    plan.injected, plan.prompt = injected, state.peft_adapters.prompt_in(composition)
    if plan.prompt is not None:
        plan.prompt.prepare(plan)
    refuse_rows(plan, state.model, state.sites)
    plan.looked_up = _token_embeddings(state, {*plan.branch, *plan.stream})
    chosen = heads_in_use(composition, head, state.head_labels, state.head_for)
    if isinstance(state.model, ModelWithHeads):
        plan.named_heads = chosen
    else:
        _put_own_heads(state, plan, chosen)
    plan.trunk = trunk_of(plan, state.sites, ports_of(state.model, state.homes))
    hook(state.model, state.homes, plan, state.runtime)
    return plan


def _put_own_heads(state: ModelState, plan: Plan, chosen: Any) -> None:
    """Write into a plan what stands in for the model's own head, and the labels of that."""
    if isinstance(chosen, SeveralHeads):
        raise CompositionError(
            f"the heads {list(chosen.names)} at once: one {type(state.model).__name__} gives one output; attach to "
            "gw.ModelWithHeads(base) for several"
        )
    plan.labels = labelled(chosen, lambda name: state.own_labels if name is None else state.head_labels[name])
    for path in state.head_paths:
        program = _head_stand_ins(chosen, path, state.head_of)
        if program is not None:
            plan.heads[path] = program


def new_fusion(state: ModelState, block: Learned, config: LearnedConfig) -> dict[int, LearnedModule]:
    """The modules of a new fusion, by the place of their site in the map; refuses adapters that cannot be weighed."""
    check_new(block.name, state, "a fusion")
    bring(state, block)
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


def _token_embeddings(state: ModelState, written: Collection[int]) -> str | None:
    """The path of the model's own token embeddings if adapters write there, else ``None``."""
    paths = [site.output.module for n, site in enumerate(state.sites) if site.kind == "embedding" and n in written]
    if not paths:
        return None
    try:
        tokens = state.model.get_input_embeddings()  # type: ignore[operator]  # of models of transformers
    except (AttributeError, NotImplementedError):
        return None
    return next((path for path in paths if state.model.get_submodule(path) is tokens), None)


def _head_stand_ins(chosen: Any, path: str, head_of: Callable[[str], Mapping[str, nn.Module]]) -> StandIns:
    """What replaces the model's head module at ``path``: a module, ``None``, or one of these for each child of a block."""
    if chosen is None:
        return None
    if isinstance(chosen, str):
        return head_of(chosen).get(path)
    block, children = chosen
    return block, tuple(_head_stand_ins(child, path, head_of) for child in children)
