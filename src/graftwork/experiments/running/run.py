"""The run of a recipe: every unit of its plan, by any number of workers, resumable at any moment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.errors import RecipeError, TrainingError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.checks import check_before
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.base import find_model
from graftwork.experiments.running.claims import ClaimLostError, Claims, discard_claims
from graftwork.experiments.running.finder import keep_finder
from graftwork.experiments.running.folder import (
    ERROR,
    RESULTS,
    claimed,
    read_result,
    recipe_of,
    remove,
    root_of,
    settle_recipe,
    write_json,
)
from graftwork.experiments.running.joint_pass import discard_passes
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.results import read_results, summarize
from graftwork.experiments.running.run_context import RunContext
from graftwork.experiments.running.stale_units import settle_units
from graftwork.experiments.running.tracking import log_results
from graftwork.experiments.running.worker import Worker, errors, pauses
from graftwork.tasks import Task, survey
from graftwork.tasks.knowledge import read_knowledge
from graftwork.tasks.languages import language_task

_RESULTS = "results"  # the claim of the results and the finder
_WAIT = 60.0  # seconds to wait for another process that begins the same run


def run(
    recipe: Recipe, run: str | Path, *, root: str | Path = ".", watcher: Watcher | None = None, redo: bool = False
) -> dict[str, Any]:
    """Train everything in a recipe; what a run's folder has already is not done again.

    A training that fails is written down, and those that depend on it are left out; the others go on. Other workers may train
    in the same folder, on this machine or on others (`work`): each training is one worker's.

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
    tasks = begin(recipe, run, root=root)
    return _work(recipe, Path(run), Path(root), tasks, watcher, redo=redo)


def work(
    run: str | Path,
    *,
    root: str | Path | None = None,
    watcher: Watcher | None = None,
    tried: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Train what is left of a run that was begun, beside any number of other workers on machines that share its folder.

    Args:
        run: The run's folder.
        root: What the recipe's paths are relative to, where the run or its base is elsewhere on this machine.
        watcher: A listener that is called with everything that happens.
        tried: The errors of trainings that are tried again (see `graftwork.experiments.running.worker.errors`); by default
            those that the folder has now.

    Returns:
        The content of ``results.json``, when all trainings are done, by whichever worker.

    Raises:
        RecipeError: As for `run`, or if the folder is not that of a run.
        TaskError: As for `run`.
        TrainingError: As for `run`.
    """
    folder = Path(run)
    recipe, at = recipe_of(folder), root_of(folder, root)
    check_before(recipe, find_model(recipe.base.model, at))
    return _work(recipe, folder, at, read_tasks(recipe, at), watcher, tried=tried)


def begin(recipe: Recipe, run: str | Path, *, root: str | Path = ".") -> dict[str, Task]:
    """Write a recipe into the folder of its run, so that workers can begin; returns its tasks, which are checked before.

    Raises:
        RecipeError: As for `run`.
        TaskError: As for `run`.
        TrainingError: If nothing can be written.
    """
    folder = Path(run)
    check_before(recipe, find_model(recipe.base.model, Path(root)))
    tasks = read_tasks(recipe, Path(root))
    with _nothing_lost(folder), claimed(folder, _WAIT):
        settle_recipe(folder, recipe, Path(root))
    return tasks


def _work(
    recipe: Recipe,
    run: Path,
    root: Path,
    tasks: Mapping[str, Task],
    watcher: Watcher | None,
    *,
    redo: bool = False,
    tried: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """What every worker does: it takes units until none is left, and then sees to the results."""
    watcher = Watcher() if watcher is None else watcher
    units, before = plan(recipe), _state(run / RESULTS)
    with _nothing_lost(run), Claims(run) as claims:
        context = RunContext(recipe, root, run, tasks)
        watcher.surveyed([survey(task, context.processor, recipe.base.max_length) for task in tasks.values()])
        tried = errors(units, run) if tried is None else tried
        done = settle_units(units, context, claims, redo=redo)
        watcher.planned(units, done)
        failed = Worker(units, done, context, claims, watcher, tried).train()
        results = _finished(units, context, claims, failed, before)
    if failed:
        raise TrainingError(_message(failed, run))
    return results


def _finished(
    units: Sequence[Unit], context: RunContext, claims: Claims, failed: dict[str, str], before: object
) -> dict[str, Any]:
    """The results of a run whose units are settled: written with the finder by one worker, read by the others.

    Args:
        units: All units.
        context: The context that they were trained in.
        claims: The claims of this worker.
        failed: What failed, and why; a finder that fails is added.
        before: The state of the file of the results before this worker began.
    """
    run, waits = context.run, pauses()
    while (claim := claims.take(_RESULTS)) is None:
        time.sleep(next(waits))
    try:
        if not failed and _state(run / RESULTS) != before:  # another worker has written it meanwhile
            with contextlib.suppress(RecipeError):
                found = read_results(run)
                if found["complete"] and [one["unit"] for one in found["units"]] == [one.id for one in units]:
                    return found
        done = {unit.id: result for unit in units if (result := read_result(unit, run)) is not None}
        for unit in done:
            failed.pop(unit, None)  # another worker has tried it again
        if recipe_of(run).model_dump(mode="json") != context.recipe.model_dump(mode="json"):
            raise TrainingError(f"the recipe of {run} has grown meanwhile; `graftwork work {run}` trains the rest")
        for left in run.glob(f".{RESULTS}.graftwork.*.new"):
            remove(left)
        results, earlier = summarize(units, done, context.recipe, failed), _content(run / RESULTS)
        write_json(run / RESULTS, results)
        try:
            keep_finder(context)
        except (OSError, RecipeError):
            raise
        except Exception as error:
            failed["finder"] = f"{type(error).__name__}: {error}"
        if _content(run / RESULTS) != earlier:  # the same command again has nothing new to tell
            log_results(context, results)
    finally:
        with contextlib.suppress(ClaimLostError):
            claim.release()
    if not failed:
        discard_passes(run)
        discard_claims(run, _RESULTS)
    return results


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _state(file: Path) -> tuple[int, int] | None:
    """What differs in a file that was written anew."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


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
