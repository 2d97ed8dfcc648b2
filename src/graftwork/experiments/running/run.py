"""The run of a recipe: every unit of its plan, one after the other, resumable at any moment."""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.errors import RecipeError, TrainingError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.checks import check_before
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.base import find_model
from graftwork.experiments.running.finder import keep_finder
from graftwork.experiments.running.folder import ERROR, RESULTS, claimed, settle_recipe, write_error, write_json
from graftwork.experiments.running.joint_pass import discard_passes, train_in_one_pass, units_in_one_pass
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.measuring import Result
from graftwork.experiments.running.provenance import dependencies
from graftwork.experiments.running.results import summarize
from graftwork.experiments.running.run_context import RunContext
from graftwork.experiments.running.stale_units import settle_units
from graftwork.experiments.running.unit import run_unit
from graftwork.tasks import Task, survey
from graftwork.tasks.knowledge import read_knowledge
from graftwork.tasks.languages import language_task


def run(
    recipe: Recipe, run: str | Path, *, root: str | Path = ".", watcher: Watcher | None = None, redo: bool = False
) -> dict[str, Any]:
    """Train everything in a recipe; what a run's folder has already is not done again.

    A training that fails is written down, and those that depend on it are left out; the others go on.

    Args:
        recipe: The recipe.
        run: The folder for its files; made where it is not there.
        root: What the recipe's paths are relative to: its own folder.
        watcher: A listener that is called with everything that happens.
        redo: Whether finished trainings that no longer fit (other rows, another base, a file that is gone) are made anew,
            with those that depend on them.

    Returns:
        The content of ``results.json`` (see `summarize`).

    Raises:
        RecipeError: If the folder is in use, was begun with another recipe, or has trainings that no longer fit; or the base
            cannot be loaded.
        TaskError: If a task's data cannot be used.
        TrainingError: If trainings failed, naming them when all others are done; or at once where nothing can be written.
    """
    folder, watcher = Path(run), Watcher() if watcher is None else watcher
    check_before(recipe, find_model(recipe.base.model, Path(root)))
    tasks = read_tasks(recipe, Path(root))
    units = plan(recipe)
    with claimed(folder), _nothing_lost(folder):
        settle_recipe(folder, recipe, Path(root))
        context = RunContext(recipe, Path(root), folder, tasks)
        watcher.surveyed([survey(task, context.processor, recipe.base.max_length) for task in tasks.values()])
        done = settle_units(units, context, redo=redo)
        watcher.planned(units, done)
        failed = _train(units, done, context, watcher)
        if not failed:
            discard_passes(folder)
        results = summarize(units, done, recipe, failed)
        write_json(folder / RESULTS, results)
        try:
            keep_finder(context)
        except (OSError, RecipeError):
            raise
        except Exception as error:
            failed["finder"] = f"{type(error).__name__}: {error}"
    if failed:
        raise TrainingError(_message(failed, folder))
    return results


def _train(units: Sequence[Unit], done: dict[str, Result], context: RunContext, watcher: Watcher) -> dict[str, str]:
    """Train what is not done, and add its results to ``done``; returns what failed or was left out, and why."""
    failed: dict[str, str] = {}
    alone: set[str] = set()  # the units whose pass with others failed
    for unit in units:
        while unit.id not in {*done, *failed}:
            lacking = [member.id for member in dependencies(unit, context) if member.id in failed]
            if lacking:
                failed[unit.id] = f"left out, because it depends on {lacking[0]}"
                watcher.failed(unit, failed[unit.id])
                break
            others = [one for one in units if one.id not in {*alone, *failed}]
            joined = (unit,) if unit.id in alone else units_in_one_pass(unit, others, done, context)
            try:
                trained: Iterable[tuple[Unit, Result]]
                if len(joined) > 1:
                    trained = train_in_one_pass(joined, set(done), context, watcher)
                else:
                    trained = [(unit, run_unit(unit, context, watcher))]
                for one, result in trained:
                    done[one.id] = result
                    write_json(context.run / RESULTS, summarize(units, done, context.recipe, failed))
            except (OSError, RecipeError):
                raise  # no other training would succeed either
            except Exception as error:
                why = f"{type(error).__name__}: {error}".strip(": ")
                if len(joined) > 1:
                    alone |= {one.id for one in joined}
                    watcher.message(
                        f"{', '.join(one.id for one in joined)}: their pass failed ({why}); each is trained by itself"
                    )
                    discard_passes(context.run, alone)
                else:
                    failed[unit.id] = why
                    write_error(unit.folder(context.run), why, traceback.format_exc())
                    watcher.failed(unit, why)
            gc.collect()  # what an error's traceback kept alive, memory of an accelerator too
    return failed


@contextlib.contextmanager
def _nothing_lost(run: Path) -> Iterator[None]:
    """Turn the error of a full disk, or of a folder that cannot be written, into a `TrainingError` with the way out."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{error.filename or run} cannot be written ({error.strerror or error}); what was finished is kept: make room, and "
            "start the same command again"
        ) from error


def _message(failed: Mapping[str, str], run: Path) -> str:
    lines = [f"  {unit}: {why.splitlines()[0]}" for unit, why in failed.items()]
    return "\n".join(
        [
            f"{len(failed)} of the trainings of {run} failed or were left out:",
            *lines,
            f"The others are done and kept; {ERROR} in the folder of each says more, and the same command tries them again",
        ]
    )


def read_tasks(recipe: Recipe, root: Path) -> dict[str, Task]:
    """Every task of a recipe with its rows; also languages and knowledge, as tasks.

    Raises:
        TaskError: If one cannot be used.
    """
    return {
        **{name: Task.read(name, spec, root) for name, spec in recipe.tasks.items()},
        **{name: language_task(name, spec, root) for name, spec in recipe.languages.items()},
        **{name: read_knowledge(name, spec, root).task() for name, spec in recipe.knowledge.items()},
    }
