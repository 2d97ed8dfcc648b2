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
        kind: What is trained: ``adapter``, ``head``, ``full``, ``average``, ``fusion``, ``own`` or ``copies``.
        task: The task whose rows it learns from.
        seed: Of everything random in it.
        members: For what stands over adapters, the units those come from, in order.
    """

    kind: str
    task: str
    seed: int
    members: tuple[Unit, ...] = ()

    @property
    def id(self) -> str:
        """Its name, also that of its folder: ``adapter/rte/0``."""
        return f"{self.kind}/{self.task}/{self.seed}"

    def folder(self, run: Path) -> Path:
        """Where its files are in a run."""
        return run / "units" / self.kind / self.task / str(self.seed)


def plan(recipe: Recipe) -> tuple[Unit, ...]:
    """Every unit of a recipe, each behind those that it needs.

    The adapters of all tasks come first, then what is trained for the targets, seed by seed: after the first seed there is
    a whole table already.
    """
    first = recipe.seeds[0]
    found: dict[str, Unit] = {}

    def add(units: Iterable[Unit]) -> None:
        for unit in units:
            found.setdefault(unit.id, unit)

    add(Unit("adapter", task, first) for task in recipe.tasks)
    for seed in recipe.seeds:
        for target in recipe.targets:
            own = Unit("adapter", target, seed)
            pool = tuple(own if task == target else Unit("adapter", task, first) for task in recipe.tasks)
            copies = tuple(Unit("adapter", target, other) for other in _copies(recipe, seed))
            members = {"average": pool, "own": (own,), "copies": copies}
            add([own, Unit("fusion", target, seed, pool)])
            for control in recipe.controls:
                add([*members.get(control, ()), Unit(control, target, seed, members.get(control, ()))])
    return tuple(found.values())


def _copies(recipe: Recipe, seed: int) -> list[int]:
    """The seeds of the copies: the unit's own, then the recipe's others, then such as no other unit has."""
    others = [s for s in recipe.seeds if s != seed]
    more = max((*recipe.seeds, 0)) + 1
    found = [seed, *others, *range(more, more + recipe.copies)]
    return found[: recipe.copies]
