"""From a recipe to the list of its trainings: units, each with what it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from graftwork.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Unit:
    """One training.

    Attributes:
        kind: What is trained: ``language``, ``knowledge``, ``adapter``, ``head``, ``full``, ``average``, ``fusion``, ``own``
            or ``copies``.
        task: The task whose rows it learns from; or the language, or the knowledge.
        seed: Of everything random in it.
        members: For what fuses adapters or averages them, the units those come from, in order.
        under: The units whose adapters stand under it in a stack, the lowest first.
    """

    kind: str
    task: str
    seed: int
    members: tuple[Unit, ...] = ()
    under: tuple[Unit, ...] = ()

    @property
    def id(self) -> str:
        """Its name, also that of its folder: ``adapter/rte/0``."""
        return f"{self.kind}/{self.task}/{self.seed}"

    def folder(self, run: Path) -> Path:
        """Where its files are in a run."""
        return run / "units" / self.kind / self.task / str(self.seed)


def plan(recipe: Recipe) -> tuple[Unit, ...]:
    """Every unit of a recipe, each behind those that it needs.

    The adapters of languages and knowledge come first, then those of all tasks, then what is trained for the targets, seed
    by seed: after the first seed there is a whole table already.
    """
    first = recipe.seeds[0]
    found: dict[str, Unit] = {}

    def add(units: Iterable[Unit]) -> None:
        for unit in units:
            found.setdefault(unit.id, unit)

    add(Unit("language", language, first) for language in recipe.languages)
    add(Unit("knowledge", knowledge, first) for knowledge in recipe.knowledge)
    add(_adapter(recipe, task, first) for task in recipe.tasks)
    for seed in recipe.seeds:
        for target in recipe.targets:
            own = _adapter(recipe, target, seed)
            beside = tuple(Unit("knowledge", one, first) for one in recipe.tasks[target].beside)
            pool = *(own if task == target else _adapter(recipe, task, first) for task in recipe.tasks), *beside
            copies = tuple(_adapter(recipe, target, other) for other in _copies(recipe, seed))
            members = {"average": pool, "own": (own,), "copies": copies}
            add([own, Unit("fusion", target, seed, pool, own.under)])
            for control in recipe.controls:
                over = members.get(control)
                add(
                    [Unit(control, target, seed)]
                    if over is None
                    else [*over, Unit(control, target, seed, over, own.under)]
                )
    return tuple(found.values())


def _adapter(recipe: Recipe, task: str, seed: int) -> Unit:
    """The adapter of a task, over those of its language and of what it knows."""
    spec, first = recipe.tasks[task], recipe.seeds[0]
    language = () if spec.language is None else (Unit("language", spec.language, first),)
    return Unit("adapter", task, seed, (), (*language, *(Unit("knowledge", one, first) for one in spec.knowledge)))


def _copies(recipe: Recipe, seed: int) -> list[int]:
    """The seeds of the copies: the unit's own, then the recipe's others, then such as no other unit has."""
    others = [s for s in recipe.seeds if s != seed]
    more = max((*recipe.seeds, 0)) + 1
    found = [seed, *others, *range(more, more + recipe.copies)]
    return found[: recipe.copies]
