"""From a recipe to the list of its trainings: units, each with what it needs."""

from __future__ import annotations

from graftwork.experiments.kinds import ALL, UNIT_KINDS, Unit
from graftwork.experiments.planning.recipe import Recipe


def plan(recipe: Recipe) -> tuple[Unit, ...]:
    """Every unit of a recipe, each after those that it needs.

    The adapters of languages and knowledge come first, then those of all tasks, then what is trained for the targets, seed
    by seed: after the first seed there is a whole table already. Where nothing is fused (``fuse = false``), only those
    adapters of tasks are trained that something asks for.
    """
    plans = _Plans(recipe)
    first = plans.first_seed
    found: dict[str, Unit] = {}

    def add(*units: Unit) -> None:
        for unit in units:
            add(*unit.stacked_on, *unit.members)
            found.setdefault(unit.id, unit)

    add(*(Unit("language", language, first) for language in recipe.languages))
    add(*(Unit("knowledge", knowledge, first) for knowledge in recipe.knowledge))
    if recipe.fuse or not recipe.targets:
        add(*(plans.shared(task, first) or plans.adapter(task, first) for task in recipe.tasks))
    for seed in recipe.seeds:
        for target in recipe.targets:
            for kind in recipe.wanted:
                shared = plans.shared(target, seed) if kind in ("adapter", "mt_shared") else None
                add(*(UNIT_KINDS[kind].units(target, seed, plans) if shared is None else (shared,)))
            below = plans.adapter(target, seed).stacked_on
            for name in recipe.methods:
                add(plans.shared(target, seed, name) or Unit("method", target, seed, (), below, method=name))
    return tuple(unit for unit in found.values() if unit.task not in recipe.trained)


class _Plans:
    """The `Plans` of a recipe: the units that kinds are made of."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.first_seed = recipe.seeds[0]
        self.tasks = recipe.tasks
        self.source, self.sequence, self.targets = recipe.source, recipe.sequence, recipe.targets

    def adapter(self, task: str, seed: int) -> Unit:
        """The adapter of a task, stacked on those of its language and knowledge; or the base trained on top of them."""
        spec, first = self.recipe.tasks[task], self.first_seed
        language = () if spec.language is None else (Unit("language", spec.language, first),)
        kind = "tuned" if spec.base == "trained" else "adapter"
        return Unit(kind, task, seed, (), (*language, *(Unit("knowledge", one, first) for one in spec.knowledge)))

    def pool(self, target: str, seed: int) -> tuple[Unit, ...]:
        """The adapters of all tasks, the target's own with the unit's seed, and those of knowledge beside them."""
        seeds = {task: seed if task == target else self.first_seed for task in self.recipe.tasks}
        beside = (Unit("knowledge", one, self.first_seed) for one in self.recipe.tasks[target].beside)
        return (*(self.adapter(task, its) for task, its in seeds.items()), *beside)

    def tasks_of(self, kind: str) -> tuple[str, ...]:
        """The tasks that a kind trains at once."""
        tasks = self.recipe.served() if kind in ("mt_shared", "mt_joint") else ()
        return tasks or tuple(self.recipe.tasks)

    def copies(self, seed: int) -> list[int]:
        """The seeds of the copies: the unit's own, then the recipe's others, then some that no other unit has."""
        count, more = self.recipe.copies, max(self.recipe.seeds) + 1
        return [seed, *(s for s in self.recipe.seeds if s != seed), *range(more, more + count)][:count]

    def shared(self, task: str, seed: int, method: str = "") -> Unit | None:
        """What trains a task's part of an adapter that serves several: with the others, or later; ``None`` for other adapters."""
        tasks = self.recipe.served(method)
        if not tasks:
            return None
        shared = Unit("mt_shared", ALL, seed, method=method, tasks=tasks)
        return shared if task in tasks else Unit("new_task", task, seed, (shared,), method=method)
