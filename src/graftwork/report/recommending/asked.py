"""From what is typed to needs: a recipe, task sizes, sources, limits, a run; and the base that weights are counted on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from graftwork.api import attach
from graftwork.errors import ConfigError
from graftwork.report.recommending.base import Base
from graftwork.report.recommending.measured import Figure, read_figures
from graftwork.report.recommending.needs import Needs, rows_of, weights_of
from graftwork.report.recommending.ranking import Advice, recommend
from graftwork.tasks import Task
from graftwork.training.planning.recipe import Recipe
from graftwork.training.running.base import auto_class, find_model
from graftwork.training.running.folder import recipe_of, root_of

MakeModel = Callable[[str, str], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """The words of the command, as they were typed.

    Attributes:
        recipe: A recipe's file: its base, its tasks, counted.
        run: The folder of a run, for its figures; its recipe where no other is given, and nothing else is said of tasks.
        base: A model, as `graftwork sites` takes it; by default that of the recipe.
        target: The task; by default the recipe's targets, or the only task.
        rows: Tasks as ``name=rows``.
        sources: Related tasks as ``name=rows``, or the names of tasks whose rows are known.
        weights: A limit, as `weights_of` reads it.
        latency: A limit.
        changing: Whether tasks come and go.
        keep_base: Whether the base may not be changed.
        keep_old: Whether what was learnt must stay.
    """

    recipe: Path | None = None
    run: Path | None = None
    base: str | None = None
    target: str | None = None
    rows: Sequence[str] = ()
    sources: Sequence[str] = ()
    weights: str | None = None
    latency: float | None = None
    changing: bool = False
    keep_base: bool = False
    keep_old: bool = False


def advise(asked: Asked, make_model: MakeModel) -> list[Advice]:
    """An advice for each target.

    Args:
        asked: What was typed.
        make_model: Makes a model without memory of a name and the name of an AutoModel class.

    Raises:
        ConfigError: If something cannot be read, or there is no task or no base.
        RecipeError: If the recipe or the run cannot be used.
        TaskError: If the data of one of the recipe's tasks cannot be used.
    """
    limit = None if asked.weights is None else weights_of(asked.weights)
    figures: tuple[Figure, ...] = () if asked.run is None else read_figures(asked.run)
    recipe, root = _recipe(asked)
    counted = (
        {} if recipe is None else {name: len(Task.read(name, spec, root).train) for name, spec in recipe.tasks.items()}
    )
    tasks = {**counted, **rows_of(asked.rows, "--rows")}
    sources = rows_of(asked.sources, "--source", tasks)
    chosen = [
        Needs(
            target=target,
            tasks=tasks,
            sources=sources or _sources(recipe, tasks, target),
            changing=asked.changing,
            keep_base=asked.keep_base,
            keep_old=asked.keep_old,
            weights_a_task=limit,
            latency=asked.latency,
            kind=recipe.tasks[target].kind if recipe is not None and target in recipe.tasks else None,
        )
        for target in _targets(asked, recipe, tasks)
    ]
    name, model, auto = _base(asked, recipe, root)
    grafts = attach(make_model(model, auto))
    return [recommend(needs, Base.of(grafts, name, needs.pool), figures) for needs in chosen]


def _recipe(asked: Asked) -> tuple[Recipe | None, Path]:
    if asked.recipe is not None:
        return Recipe.read(asked.recipe), asked.recipe.absolute().parent
    if asked.run is not None and not asked.rows:
        return recipe_of(asked.run), root_of(asked.run)
    return None, Path()


def _targets(asked: Asked, recipe: Recipe | None, tasks: dict[str, int]) -> list[str]:
    if asked.target is not None:
        return [asked.target]
    if recipe is not None and recipe.targets:
        return [*recipe.targets]
    if len(tasks) == 1:
        return [*tasks]
    if not tasks:
        raise ConfigError("there is no task; give a recipe, or the training rows of a task, such as --rows rte=2490")
    raise ConfigError(
        f"there are {len(tasks)} tasks; say which one is to be served best, as --target {next(iter(tasks))}"
    )


def _sources(recipe: Recipe | None, tasks: dict[str, int], target: str) -> dict[str, int]:
    """In a recipe with targets every other task is a source of a target's fusion."""
    if recipe is None or target not in recipe.targets:
        return {}
    return {name: rows for name, rows in tasks.items() if name in recipe.tasks and name != target}


def _base(asked: Asked, recipe: Recipe | None, root: Path) -> tuple[str, str, str]:
    """What the base is called, what it is made of, and the AutoModel class."""
    if asked.base is not None:
        return asked.base, asked.base, "AutoModel"
    if recipe is None and asked.run is not None:
        recipe, root = recipe_of(asked.run), root_of(asked.run)
    if recipe is None:
        raise ConfigError("there is no base to count weights on; give --base, such as --base bert, or a recipe")
    return recipe.base.model, find_model(recipe.base.model, root), auto_class(recipe.kinds)
