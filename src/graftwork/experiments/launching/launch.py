"""A run by workers that an engine starts: they share the run's folder, and this process watches it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from graftwork.errors import ConfigError, GraftworkError, TrainingError
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.folder import RESULTS, is_done
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.on_ranks import refuse_ranks
from graftwork.experiments.running.results import read_results
from graftwork.experiments.running.run import begin, work
from graftwork.experiments.running.worker import errors
from graftwork.options import hint

ENGINES = {"ray": "graftwork.experiments.launching.on_ray", "slurm": "graftwork.experiments.launching.on_slurm"}


class Jobs(Protocol):
    """Workers that were started."""

    def wait(self, seconds: float) -> bool:
        """Wait at most so many seconds; returns whether all have ended."""

    def errors(self) -> list[str]:
        """Why workers ended, of those that were not done; when all have ended."""

    def close(self) -> None:
        """Let go of the engine; workers that still train are ended."""


def launch(
    recipe: Recipe,
    run: str | Path,
    on: str,
    *,
    root: str | Path = ".",
    workers: int = 1,
    gpus_per_unit: float = 0.0,
    hours: float = 24.0,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Train everything in a recipe, as `run` does, by workers on an engine.

    Args:
        recipe: The recipe.
        run: The folder for its files, which all machines share under the same path.
        on: ``"ray"`` starts Ray on this machine, ``"ray:ADDRESS"`` uses a cluster that is there; ``"slurm"`` or
            ``"slurm:PARTITION"`` submits jobs, ``"slurm:local"`` starts them on this machine, to try that out.
        root: What the recipe's paths are relative to: its own folder, under the same path on all machines.
        workers: The number of workers; each trains one unit at a time.
        gpus_per_unit: The GPUs of each worker: a quarter lets four workers share one, which Ray can.
        hours: The most hours of a job of Slurm; what it did not end is taken over by the others, or by the next command.
        watcher: A listener that is told which units are done, and which failed.

    Returns:
        The content of ``results.json``.

    Raises:
        ConfigError: If the engine is not known or not installed, or cannot give what is asked for.
        RecipeError: As for `run`.
        TaskError: As for `run`.
        TrainingError: If trainings failed, or the workers ended before all was done; the same call goes on.
    """
    refuse_ranks(f"on = {on!r}")
    name, _, where = on.partition(":")
    if name not in ENGINES:
        raise ConfigError(f"on is {on!r}; it begins with {' or '.join(ENGINES)}. {hint(name, ENGINES)}".strip())
    if workers < 1:
        raise ConfigError(f"workers is {workers}; give 1 or more")
    if gpus_per_unit < 0:
        raise ConfigError(f"gpus_per_unit is {gpus_per_unit}; give 0 for none, or more")
    engine = importlib.import_module(ENGINES[name])
    engine.check(where, gpus_per_unit)
    folder, at, watcher = Path(run).resolve(), Path(root).resolve(), watcher or Watcher()
    begin(recipe, folder, root=at)
    units = plan(recipe)
    tried = errors(units, folder)
    watcher.planned(units, {})
    arguments = (str(folder), str(at), tried)
    jobs: Jobs = engine.start(work_here, arguments, where, workers=workers, gpus=gpus_per_unit, hours=hours)
    try:
        seen: set[str] = set()
        while not jobs.wait(2.0):
            _tell(units, folder, tried, seen, watcher)
        _tell(units, folder, tried, seen, watcher)
        said = jobs.errors()
    finally:
        jobs.close()
    results = read_results(folder) if (folder / RESULTS).is_file() else None
    if results is not None and results["complete"] and all(is_done(unit, folder) for unit in units):
        return results
    why = "\n".join(dict.fromkeys(said))  # what failed, as each worker says it; or why the workers themselves did
    raise TrainingError(why or f"the workers on {on} ended before all was done; the same command goes on")


def work_here(run: str, root: str, tried: Mapping[str, bytes]) -> str | None:
    """Work as one worker of a run, where an engine has started this process; returns what went wrong, if anything did."""
    try:
        work(run, root=root, tried=tried)
    except GraftworkError as error:
        return str(error)
    return None


def _tell(units: Sequence[Any], run: Path, tried: Mapping[str, bytes], seen: set[str], watcher: Watcher) -> None:
    """Tell a listener what has happened since the last time."""
    failed = {unit: text for unit, text in errors(units, run).items() if tried.get(unit) != text}
    for unit in units:
        if unit.id in seen:
            continue
        if is_done(unit, run):
            watcher.ended_elsewhere(unit, run)
            seen.add(unit.id)
        elif unit.id in failed:
            watcher.failed(unit, failed[unit.id].decode("utf-8", "replace").partition("\n")[0])
            seen.add(unit.id)
