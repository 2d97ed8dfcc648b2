"""A sweep: trials of a recipe with other values, each a run of its own, by any number of processes that share the folder."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from graftwork.checkpoint.folders import replace_file
from graftwork.errors import ConfigError, GraftworkError, RecipeError, TrainingError
from graftwork.experiments.planning.checks import check_before
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.base import find_model
from graftwork.experiments.running.claims import ClaimLostError, Claims
from graftwork.experiments.running.folder import CHECKPOINTS, RECIPE, claimed, remove, write_json
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.records import Number, Shape, read_record
from graftwork.experiments.running.run import read_tasks, run
from graftwork.experiments.running.worker import pauses
from graftwork.experiments.sweeping.aim import Aim
from graftwork.experiments.sweeping.best_recipe import as_toml
from graftwork.experiments.sweeping.early_scores import EarlyScores, PrunedError
from graftwork.experiments.sweeping.ranges import Value, read_ranges, variants, with_values
from graftwork.experiments.sweeping.study import TRIALS, Study, name_of
from graftwork.training.scores import mean_metric

SWEEP, BEST = "sweep.json", "best.toml"
_USUAL = 20  # trials, where not all values are choices
_WAIT = 60.0  # seconds to wait for another process that begins the same sweep
Watch = Callable[[Recipe], Watcher]


class _Trial(Shape):
    trial: str
    state: Literal["done", "pruned", "failed", "begun"]
    score: Number | None
    values: dict[str, Any]
    why: str | None


class _Sweep(Shape):
    """A sweep's ``sweep.json``."""

    format: Literal[1]
    recipe: dict[str, Any]
    over: list[dict[str, Any]]
    kind: str
    metric: str
    targets: list[str]
    trials: list[_Trial]
    best: str | None


def sweep(
    recipe: Recipe,
    over: Mapping[str, str | Sequence[Value]],
    out: str | Path,
    *,
    trials: int | None = None,
    kind: str | None = None,
    root: str | Path = ".",
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Find the values of some keys of a recipe with the best score on the dev rows, as Optuna proposes them.

    Each trial is a run in ``trials/`` that trains only what is optimised. The same call goes on after an interruption, and other
    processes may make the same call at the same time: each takes trials of its own. A trial whose scores are below the median of
    the others at the same time is stopped. The best values are in ``best.toml``, the whole recipe.

    Args:
        recipe: The recipe.
        over: Keys of the recipe with their values: ``"4,16,64"`` or a list, ``"1e-4..1e-2"``, ``"1e-4..1e-2:log"``.
        out: The folder of the sweep; made where it is not there.
        trials: The most trials; by default every combination where all values are choices, else 20.
        kind: What is optimised: a kind of training (``"fusion"``, ``"adapter"``, ``"head"``, ...) or a ``[methods.NAME]``; by
            default the method that a key is of, else the fusions of the recipe's targets, else its adapters.
        root: What the recipe's paths are relative to: its own folder.
        watch: Returns a listener for the run of a trial, given its recipe.

    Returns:
        The content of ``sweep.json``: ``trials``, each with its ``state``, ``score`` and ``values``, and the name of the ``best``.

    Raises:
        ConfigError: If Optuna is not installed, or values cannot be read.
        RecipeError: If the recipe refuses a key or a value, or the folder is of something else.
        TaskError: If a task's data cannot be used.
        TrainingError: If no trial has a score, or nothing can be written.

    Example:
        >>> sweep(recipe, {"adapter.reduction_factor": [4, 16]}, "runs/sweep", root=folder)["best"]  # doctest: +SKIP
        '0001'
    """
    at, folder, watch = Path(root), Path(out), watch or (lambda recipe: Watcher())
    ranges = read_ranges(over)
    aim = Aim.of(recipe, ranges, kind)
    if trials is not None and trials < 1:
        raise ConfigError(f"trials is {trials}; give 1 or more")
    for variant in variants(aim.recipe, ranges):
        check_before(variant, find_model(variant.base.model, at))
    for variant in variants(recipe, ranges):
        as_toml(variant, at, folder)
    tasks = read_tasks(aim.recipe, at)
    metrics = dict.fromkeys(tasks[task].metric for task in aim.targets)
    spec = {
        "format": 1,
        "recipe": recipe.model_dump(mode="json", exclude_unset=True),
        "over": [{**dataclasses.asdict(one), "choices": [*one.choices]} for one in ranges],
        "kind": aim.kind,
        "metric": mean_metric(metrics) if len(aim.targets) > 1 else next(iter(metrics)),
        "targets": [*aim.targets],
    }
    with claimed(folder, _WAIT):
        _settle(folder, spec)
        study = Study(folder, ranges)
    every = study.combinations
    most = min(trials or every or _USUAL, every or trials or _USUAL)
    with Claims(folder) as claims:
        _Sweeper(recipe, aim, study, at, spec, most, claims, watch).go()
    found = read_sweep(folder)
    if found["best"] is None:
        why = next((one["why"] for one in found["trials"] if one["why"]), "all were stopped early")
        raise TrainingError(f"no trial of {folder} has a score: {why}")
    return found


def read_sweep(folder: str | Path) -> dict[str, Any]:
    """The content of a sweep's ``sweep.json``.

    Raises:
        RecipeError: If there is none, or it is damaged.
    """
    path = Path(folder) / SWEEP
    if not path.is_file():
        raise RecipeError(
            f"{folder} is no folder of a sweep: it has no {SWEEP}; give what `graftwork sweep` wrote into"
        )
    found: dict[str, Any] = read_record(path, _Sweep, "give another --out")
    return found


def _settle(folder: Path, spec: dict[str, Any]) -> None:
    """Begin a sweep's folder; refuse one of something else, or of another sweep."""
    if (folder / RECIPE).exists() or ((folder / TRIALS).exists() and not (folder / SWEEP).is_file()):
        raise RecipeError(f"{folder} has files of something else than a sweep; give another --out")
    if (folder / SWEEP).is_file():
        before = read_sweep(folder)
        if differing := [key for key, value in spec.items() if before[key] != value]:
            raise RecipeError(
                f"{folder} was begun with another {' and '.join(differing)}; give another --out, or take the change back (only "
                "the number of trials may grow)"
            )
    else:
        write_json(folder / SWEEP, {**spec, "trials": [], "best": None})


@dataclasses.dataclass
class _Sweeper:
    """One process of a sweep."""

    recipe: Recipe
    aim: Aim
    study: Study
    root: Path
    spec: dict[str, Any]
    most: int
    claims: Claims
    watch: Watch

    def go(self) -> None:
        """Train trials until none is left, and wait for those of other processes."""
        waits = pauses()
        while not self.study.settled(self.most):
            found = self.study.next(self.most, self.claims)
            if found is None:
                time.sleep(next(waits))
                continue
            trial, claim = found
            try:
                self._train(trial)
            finally:
                with contextlib.suppress(ClaimLostError):
                    claim.release()
            waits = pauses()
        self._write()

    def _train(self, trial: Any) -> None:
        """Train a trial, or go on with it, and write down how it ended."""
        values = {one.key: one.suggest(trial) for one in self.study.ranges}
        name, folder = name_of(trial.number), self.study.folder / TRIALS / name_of(trial.number)
        watcher = Watcher()
        try:
            recipe = with_values(self.aim.recipe, {**values, **self._tracked_as(name)})
            watcher = self.watch(recipe)
            said = ", ".join(
                f"{key} = {value:.4g}" if isinstance(value, float) else f"{key} = {value}"
                for key, value in values.items()
            )
            watcher.message(f"trial {name} ({trial.number + 1} of {self.most}): {said}")
            score, how = self.study.known(trial), "as an earlier trial with the same values"
            if score is None:
                results = run(recipe, folder, root=self.root, watcher=EarlyScores(watcher, self.aim, self.study, trial))
                score, how = self._score(results), "on the dev rows"
            self.study.tell(trial, score=score)
            ended = f"{self.spec['metric']} {score:.4f} {how}"
        except PrunedError:
            self.study.tell(trial)
            for left in folder.glob(f"units/*/*/*/{CHECKPOINTS}"):  # it will not go on
                remove(left)
            ended = "stopped, since its scores are below the median"
        except GraftworkError as error:
            if isinstance(error.__cause__, OSError):  # the others would not succeed either
                raise
            self.study.tell(trial, why=str(error))
            ended = f"failed: {error}"
        best = self._write()
        watcher.message(f"trial {name}: {ended}; {f'best so far: trial {best}' if best else 'none has a score yet'}")

    def _tracked_as(self, name: str) -> dict[str, Value]:
        """The name of a trial for trackers, where there are some."""
        table = self.recipe.tracking
        return {"tracking.name": f"{table.name or self.study.folder.resolve().name}/{name}"} if table.to else {}

    def _score(self, results: Mapping[str, Any]) -> float:
        """The mean of the scores that count."""
        return statistics.fmean(self.aim.score(one) for one in results["units"] if self.aim.counted(one))

    def _write(self) -> str | None:
        """Write all trials so far, and the best as a recipe; returns its name."""
        with self.claims.locked("written"):
            rows = self.study.rows()
            done = [one for one in rows if one["state"] == "done"]
            best = max(done, key=lambda one: one["score"], default=None)  # the first of those that are as good
            if best is not None:
                text = as_toml(with_values(self.recipe, best["values"]), self.root, self.study.folder)
                head = f"# Trial {best['trial']} of {len(done)}: {self.spec['metric']} {best['score']:.4f} on the dev rows.\n"
                replace_file(self.study.folder / BEST, (head + text).encode())
            name = None if best is None else best["trial"]
            write_json(self.study.folder / SWEEP, {**self.spec, "trials": rows, "best": name})
        return name
