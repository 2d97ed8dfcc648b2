"""A whole recipe: every unit of its plan, one after the other, resumable at any moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.tasks import Task, survey
from graftwork.tasks.knowledge import read_knowledge
from graftwork.tasks.languages import language_task
from graftwork.training.planning.checks import check_before
from graftwork.training.planning.plan import Unit, plan
from graftwork.training.planning.recipe import Recipe
from graftwork.training.running.base import find_model
from graftwork.training.running.company import company_of, forget_companies, train_company
from graftwork.training.running.finder import keep_finder
from graftwork.training.running.folder import claimed, read_result, settle_recipe
from graftwork.training.running.results import summarize, write_results
from graftwork.training.running.unit import Result, run_unit
from graftwork.training.running.watching import Watcher
from graftwork.training.running.workshop import Workshop


def run(recipe: Recipe, run: str | Path, *, root: str | Path = ".", watcher: Watcher | None = None) -> dict[str, Any]:
    """Train everything that a recipe says; what a run's folder has already is not done again.

    Args:
        recipe: The recipe.
        run: The folder for its files; made where it is not there.
        root: What the recipe's paths are relative to: its own folder.
        watcher: Is told of everything that happens.

    Returns:
        What ``results.json`` says (see `summarize`).

    Raises:
        RecipeError: If the folder is in use, or was begun with another recipe; or the base cannot be loaded.
        TaskError: If a task's data cannot be used.
        TrainingError: If a loss is not a number, or the disk is full.
    """
    folder, watcher = Path(run), Watcher() if watcher is None else watcher
    check_before(recipe, find_model(recipe.base.model, Path(root)))
    tasks = read_tasks(recipe, Path(root))
    units = plan(recipe)
    with claimed(folder):
        settle_recipe(folder, recipe, Path(root))
        shop = Workshop(recipe, Path(root), folder, tasks)
        watcher.surveyed([survey(task, shop.processor, recipe.base.max_length) for task in tasks.values()])
        done = {unit.id: result for unit in units if (result := read_result(unit.folder(folder))) is not None}
        watcher.planned(units, done)
        for unit in units:
            for one, result in () if unit.id in done else _trained(unit, units, done, shop, watcher):
                done[one.id] = result
                write_results(folder, summarize(units, done, recipe))
        forget_companies(folder)
        results = summarize(units, done, recipe)
        write_results(folder, results)
        keep_finder(shop)
    return results


def _trained(
    unit: Unit, units: Sequence[Unit], done: Mapping[str, Result], shop: Workshop, watcher: Watcher
) -> Iterator[tuple[Unit, Result]]:
    """A unit with its result when it is trained, and those that learnt in one pass with it."""
    company = company_of(unit, units, done, shop)
    if len(company) > 1:
        yield from train_company(company, set(done), shop, watcher)
    else:
        yield unit, run_unit(unit, shop, watcher)


def read_tasks(recipe: Recipe, root: Path) -> dict[str, Task]:
    """Every task of a recipe with its rows, and languages and knowledge as the tasks of learning them.

    Raises:
        TaskError: If one cannot be used.
    """
    return {
        **{name: Task.read(name, spec, root) for name, spec in recipe.tasks.items()},
        **{name: language_task(name, spec, root) for name, spec in recipe.languages.items()},
        **{name: read_knowledge(name, spec, root).task() for name, spec in recipe.knowledge.items()},
    }
