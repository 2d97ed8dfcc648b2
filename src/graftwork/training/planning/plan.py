"""From a recipe to the list of its trainings: units, each with what it needs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from graftwork.training.planning.kinds import UNIT_KINDS
from graftwork.training.planning.recipe import ALL, Recipe
from graftwork.training.planning.serving import served


@dataclasses.dataclass(frozen=True)
class Unit:
    """One training.

    Attributes:
        kind: What is trained, one of `graftwork.training.planning.kinds.UNIT_KINDS`.
        task: The task whose rows it learns from; or the language, or the knowledge.
        seed: Of everything random in it.
        members: The units that it goes on from, in order: of adapters that it fuses or averages, of what was trained before.
        under: The units whose adapters stand under it in a stack, the lowest first.
        method: Whose table makes its adapter, where that is not ``[adapter]``.
        tasks: For what is trained on all tasks, those, in order.
    """

    kind: str
    task: str
    seed: int
    members: tuple[Unit, ...] = ()
    under: tuple[Unit, ...] = ()
    method: str = ""
    tasks: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its kind, with the method where it is one of several."""
        return f"{self.kind}-{self.method}" if self.method else self.kind

    @property
    def id(self) -> str:
        """Its name, also that of its folder: ``adapter/rte/0``."""
        return f"{self.label}/{self.task}/{self.seed}"

    def step(self, task: str) -> Unit:
        """What one step of a sequence does: its adapter where it goes on from some, else the whole base."""
        return Unit("adapter" if self.members else "full", task, self.seed)

    def folder(self, run: Path) -> Path:
        """Where its files are in a run."""
        return run / "units" / self.label / self.task / str(self.seed)


def plan(recipe: Recipe) -> tuple[Unit, ...]:
    """Every unit of a recipe, each behind those that it needs.

    The adapters of languages and knowledge come first, then those of all tasks, then what is trained for the targets, seed
    by seed: after the first seed there is a whole table already. Where nothing is fused (``fuse = false``), only those
    adapters of tasks are trained that something asks for.
    """
    first = recipe.seeds[0]
    found: dict[str, Unit] = {}

    def add(*units: Unit) -> None:
        for unit in units:
            add(*unit.under, *unit.members)
            found.setdefault(unit.id, unit)

    add(*(Unit("language", language, first) for language in recipe.languages))
    add(*(Unit("knowledge", knowledge, first) for knowledge in recipe.knowledge))
    if recipe.fuse or not recipe.targets:
        add(*(_of_shared(recipe, task, first) or _adapter(recipe, task, first) for task in recipe.tasks))
    for seed in recipe.seeds:
        for target in recipe.targets:
            for kind in recipe.wanted:
                add(*_of(recipe, kind, target, seed))
            under = _adapter(recipe, target, seed).under
            for name in recipe.methods:
                add(_of_shared(recipe, target, seed, name) or Unit("method", target, seed, (), under, method=name))
    return tuple(unit for unit in found.values() if unit.task not in recipe.trained)


def _of(recipe: Recipe, kind: str, target: str, seed: int) -> tuple[Unit, ...]:
    """The unit of a kind for a target; none where the kind makes no sense for it."""
    first, own = recipe.seeds[0], _adapter(recipe, target, seed)
    if kind in ("adapter", "mt_shared") and (shared := _of_shared(recipe, target, seed)) is not None:
        return (shared,)
    if kind == "adapter":
        return (own,)
    if UNIT_KINDS[kind].of_all:
        joint = _of_all(recipe, kind, seed)
        return (joint,) if target in joint.tasks else ()
    if kind in ("intermediate", "intermediate_full"):
        if target == recipe.source:
            return ()
        assert recipe.source is not None
        adapted = kind == "intermediate"
        source = _adapter(recipe, recipe.source, first) if adapted else Unit("trunk", recipe.source, first)
        return (Unit(kind, target, seed, (source,), own.under),)
    beside = tuple(Unit("knowledge", one, first) for one in recipe.tasks[target].beside)
    pool = *(own if task == target else _adapter(recipe, task, first) for task in recipe.tasks), *beside
    members = {
        "average": pool,
        "own": (own,),
        "copies": tuple(_adapter(recipe, target, other) for other in _copies(recipe, seed)),
        "scalearn": pool,
        "fusion": pool,
        "fusion_mt": (_of_all(recipe, "mt_joint", seed),),
    }.get(kind)
    under = own.under if members is not None or kind == "longer" else ()
    return (Unit(kind, target, seed, members or (), under),)


def _of_all(recipe: Recipe, kind: str, seed: int) -> Unit:
    """What is trained on all tasks at once, or on one after the other."""
    if kind == "sequential":
        return Unit(kind, ALL, seed, tasks=recipe.sequence)
    if kind == "sequential_adapters":
        first = recipe.seeds[0]
        steps = tuple(_adapter(recipe, t, seed if t in recipe.targets else first) for t in recipe.sequence)
        return Unit(kind, ALL, seed, steps, tasks=recipe.sequence)
    tasks = served(recipe) if kind in ("mt_shared", "mt_joint") else ()
    return Unit(kind, ALL, seed, tasks=tasks or tuple(recipe.tasks))


def _of_shared(recipe: Recipe, task: str, seed: int, method: str = "") -> Unit | None:
    """What trains a task's part of an adapter that serves several: with the others, or later; ``None`` for other adapters."""
    tasks = served(recipe, method)
    if not tasks:
        return None
    shared = Unit("mt_shared", ALL, seed, method=method, tasks=tasks)
    return shared if task in tasks else Unit("new_task", task, seed, (shared,), method=method)


def _adapter(recipe: Recipe, task: str, seed: int) -> Unit:
    """The adapter of a task, over those of its language and of what it knows; or the base tuned over them."""
    spec, first = recipe.tasks[task], recipe.seeds[0]
    language = () if spec.language is None else (Unit("language", spec.language, first),)
    kind = "tuned" if spec.base == "trained" else "adapter"
    return Unit(kind, task, seed, (), (*language, *(Unit("knowledge", one, first) for one in spec.knowledge)))


def _copies(recipe: Recipe, seed: int) -> list[int]:
    """The seeds of the copies: the unit's own, then the recipe's others, then such as no other unit has."""
    others = [s for s in recipe.seeds if s != seed]
    more = max((*recipe.seeds, 0)) + 1
    found = [seed, *others, *range(more, more + recipe.copies)]
    return found[: recipe.copies]
