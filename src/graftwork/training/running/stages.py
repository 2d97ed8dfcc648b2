"""What each kind of unit puts on the base, and what of it learns. A new kind is a function here and a name in the plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from graftwork.api import Adapters
from graftwork.attach.members import full_name
from graftwork.compose import Average, Composition, Fuse, ScaLearn, Stack
from graftwork.compose.blocks import Learned
from graftwork.errors import RecipeError
from graftwork.training.planning.kinds import UNIT_KINDS
from graftwork.training.planning.plan import Unit
from graftwork.training.planning.recipe import SHARED, Recipe

# Brings another unit's files onto the model: its adapter under a name, with its head or without; or the base that it trained.
Bring = Callable[[Unit, str, bool], None]


class Stage(NamedTuple):
    """What was put on the model.

    Attributes:
        saves: The name of what is kept of it, ``None`` for a whole base.
        folder: The name of the folder in the unit's that it is kept in; of a whole base ``"base"`` where it is kept.
        top: What it trained or weighs, without what stands under it; ``None`` where no adapter is active.
        head: The head in use.
        base: Whether the base was trained with it and is kept in ``"base"``.
        retrained: The adapters under it that learned with the base: kept in ``"adapters"``, since theirs is another base now.
    """

    saves: str | None
    folder: str
    top: Composition = None
    head: str | None = None
    base: bool = False
    retrained: tuple[str, ...] = ()


def set_up(unit: Unit, grafts: Adapters, recipe: Recipe, add_head: Callable[[str], None], bring: Bring) -> Stage:
    """Put on the model what a unit trains, with what that stands over, and choose what learns.

    Args:
        unit: The unit.
        grafts: The handle of a fresh base.
        recipe: Its recipe.
        add_head: Gives a name the head of the unit's task.
        bring: Puts the adapter of another unit on the model, under a name.
    """
    for member in unit.under:
        bring(member, member.task, False)  # what stands under a task has no say
    return _STAGES[unit.kind](unit, grafts, recipe, add_head, bring)


def fusion_name(unit: Unit) -> str:
    """What the fusion of a unit is called."""
    return f"{unit.kind}-{unit.task}"


def member_name(unit: Unit, member: Unit) -> str:
    """What an adapter is called in the pool of a unit: its task, for copies with its seed."""
    return f"{member.task}@{member.seed}" if unit.kind == "copies" else member.task


def mt_folder(unit: Unit, task: str, run: Path) -> Path:
    """Where the adapter of a task is that was trained jointly with others and the base."""
    return unit.folder(run) / "adapters" / task


def joint_way(unit: Unit, task: str, recipe: Recipe) -> tuple[str | None, str]:
    """What a task of a unit of all tasks goes through: the shared adapter, its member of that, its own, or none; and its head."""
    if unit.kind == "multitask":
        return None, task
    if recipe.adapter_config(unit.kind, unit.method).members:
        return full_name(SHARED, task), full_name(SHARED, task)
    return SHARED if unit.kind == "mt_shared" else task, task


def load_joint(
    grafts: Adapters, unit: Unit, recipe: Recipe, run: Path, tasks: Sequence[str], *, head: bool = True
) -> None:
    """Put what a unit of all tasks has trained on the model: its base where it trained that, its adapters, heads of some tasks.

    Args:
        grafts: The handle of the base; a shared adapter that is there already is not read again.
        unit: The unit.
        recipe: Its recipe.
        run: The run's folder.
        tasks: The tasks.
        head: Whether heads that are kept beside an adapter are wanted too.

    Raises:
        RecipeError: If an adapter of several tasks is of a version that gave it one embedding for all.
    """
    folder = unit.folder(run)
    if UNIT_KINDS[unit.kind].trains_base:
        grafts.load_base(folder / "base")
    for task in tasks:
        adapter, _ = joint_way(unit, task, recipe)
        if adapter == task:
            grafts.load(mt_folder(unit, task, run), task, head=head)
        elif SHARED not in grafts.names:
            grafts.load(folder / "adapter", SHARED)
            _require_member(grafts, adapter, folder)
        if head and adapter == SHARED:
            grafts.load(folder / "heads" / task, task)


def _require_member(grafts: Adapters, adapter: str | None, folder: Path) -> None:
    if adapter not in (*grafts.names, *grafts.members):
        raise RecipeError(
            f"{folder}: its adapter was trained with one embedding for all tasks, as version 0.1.0 did; remove the folder and go "
            "on with `graftwork run`, which trains one a task"
        )


def load_tuned(grafts: Adapters, unit: Unit, run: Path) -> None:
    """Put a base that was tuned over adapters on the model, where those are already; with its head, and what learned with it."""
    folder = unit.folder(run)
    grafts.load_base(folder / "base")
    for member in unit.under:
        if (folder / "adapters" / member.task).is_dir():
            grafts.remove(member.task)
            grafts.load(folder / "adapters" / member.task, member.task, head=False)
    grafts.load(folder / "head", unit.task)


def adapter_folder(unit: Unit, recipe: Recipe, root: Path, run: Path) -> Path:
    """Where the adapter of a unit is: in the run, or where the recipe says that it is trained already.

    Args:
        unit: The unit.
        recipe: The recipe.
        root: What its paths are relative to.
        run: The run's folder.
    """
    there = recipe.trained.get(unit.task)
    return unit.folder(run) / "adapter" if there is None else root / Path(there).expanduser()


def over(unit: Unit, top: Composition, language: str | None = None) -> Composition:
    """A composition over the adapters that a unit stands over.

    Args:
        unit: The unit.
        top: What stands above them, ``None`` for nothing.
        language: In the place of the unit's own language.
    """
    under = [language if language and member.kind == "language" else member.task for member in unit.under]
    if top is None and len(under) == 1:
        return under[0]
    return Stack(*under, *([] if top is None else [top])) if under else top


def _adapter(unit: Unit, grafts: Adapters, recipe: Recipe, add_head: Callable[[str], None], bring: Bring) -> Stage:
    grafts.add(unit.task, recipe.adapter_config(unit.kind, unit.method))
    return _one_adapter(unit, grafts, add_head)


def _intermediate(unit: Unit, grafts: Adapters, recipe: Recipe, add_head: Callable[[str], None], bring: Bring) -> Stage:
    """The source's adapter goes on with the target's rows, under a head of its own."""
    (source,) = unit.members
    bring(source, unit.task, False)
    return _one_adapter(unit, grafts, add_head)


def _new_task(unit: Unit, grafts: Adapters, recipe: Recipe, add_head: Callable[[str], None], bring: Bring) -> Stage:
    """A task more of an adapter that serves several: only what is its own learns. The others' parts are not kept with it."""
    (shared,) = unit.members
    bring(shared, unit.task, False)
    before, new = grafts.members_of(unit.task), grafts.add_member(unit.task, unit.task)
    for member in before:
        grafts.remove(member)
    add_head(new)
    grafts.train_only(new)
    return Stage(unit.task, "adapter", new, new)


def _tuned(unit: Unit, grafts: Adapters, recipe: Recipe, add_head: Callable[[str], None], bring: Bring) -> Stage:
    """The base with the head of a task, over adapters that stay as they are or learn with it."""
    add_head(unit.task)
    learn = recipe.tasks[unit.task].adapters == "trained"
    retrained = tuple(member.task for member in unit.under) if learn else ()
    grafts.train_only([*retrained, unit.task], active=over(unit, None), head=unit.task, base="trained")
    return Stage(unit.task, "head", None, unit.task, base=True, retrained=retrained)


def _one_adapter(unit: Unit, grafts: Adapters, add_head: Callable[[str], None]) -> Stage:
    add_head(unit.task)
    grafts.train_only(unit.task, active=over(unit, unit.task))
    return Stage(unit.task, "adapter", unit.task, unit.task)


def _head(unit: Unit, grafts: Adapters, recipe: Recipe, add_head: Callable[[str], None], bring: Bring) -> Stage:
    add_head(unit.task)
    grafts.train_only(unit.task)
    return Stage(unit.task, "head", None, unit.task)


def _full(unit: Unit, grafts: Adapters, recipe: Recipe, add_head: Callable[[str], None], bring: Bring) -> Stage:
    for source in unit.members:
        bring(source, source.task, False)
    add_head(unit.task)
    grafts.train_only(unit.task, base="trained")
    return Stage(None, "base" if unit.kind == "trunk" else "full", None, unit.task)


def _fusion(unit: Unit, grafts: Adapters, recipe: Recipe, add_head: Callable[[str], None], bring: Bring) -> Stage:
    names = _members(unit, bring)
    own = next(name for name, member in names.items() if (member.task, member.seed) == (unit.task, unit.seed))
    return _learned(unit, grafts, recipe, pool_of(unit, list(names)), own)


def _fusion_mt(unit: Unit, grafts: Adapters, recipe: Recipe, add_head: Callable[[str], None], bring: Bring) -> Stage:
    """A fusion of adapters that were trained with the base, on that base."""
    (joint,) = unit.members
    bring(joint, unit.task, True)
    return _learned(unit, grafts, recipe, pool_of(unit, joint.tasks), unit.task)


def _learned(unit: Unit, grafts: Adapters, recipe: Recipe, pool: Learned, own: str) -> Stage:
    config = recipe.scalearn_config if isinstance(pool, ScaLearn) else recipe.fusion_config
    grafts.add_fusion(pool, config, head_from=own)
    grafts.train_only(pool, active=over(unit, pool))
    return Stage(pool.name, "fusion", pool, pool.name)


def _average(unit: Unit, grafts: Adapters, recipe: Recipe, add_head: Callable[[str], None], bring: Bring) -> Stage:
    names = _members(unit, bring)
    head = f"average-{unit.task}"
    add_head(head)
    own = grafts.head_of(unit.task)
    for path, module in grafts.head_of(head).items():  # it starts where a fusion's head does
        module.load_state_dict(own[path].state_dict())
    mean = Average(*names)
    grafts.train_only(head, active=over(unit, mean), head=head)
    return Stage(head, "head", mean, head)


def pool_of(unit: Unit, names: Sequence[str]) -> Learned:
    """The block that a unit learns over adapters of those names."""
    block = ScaLearn if unit.kind == "scalearn" else Fuse
    return block(*names, name=fusion_name(unit))


def _members(unit: Unit, bring: Bring) -> dict[str, Unit]:
    names = {member_name(unit, member): member for member in unit.members}
    for name, member in names.items():
        bring(member, name, member.kind == "adapter")  # what is fused beside a task has no say
    return names


_STAGES: dict[str, Callable[[Unit, Adapters, Recipe, Callable[[str], None], Bring], Stage]] = {
    "language": _adapter,
    "knowledge": _adapter,
    "adapter": _adapter,
    "method": _adapter,
    "longer": _adapter,
    "intermediate": _intermediate,
    "new_task": _new_task,
    "tuned": _tuned,
    "head": _head,
    "trunk": _full,
    "full": _full,
    "intermediate_full": _full,
    "average": _average,
    "scalearn": _fusion,
    "fusion": _fusion,
    "fusion_mt": _fusion_mt,
    "own": _fusion,
    "copies": _fusion,
}
