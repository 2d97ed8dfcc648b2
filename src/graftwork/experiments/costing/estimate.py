"""What a recipe would take: its trainings, their weights and steps, and the time, from a few measured steps of each kind."""

from __future__ import annotations

import functools
import math
import tempfile
from pathlib import Path
from timeit import repeat, timeit
from typing import Any, NamedTuple

from graftwork.experiments.costing.costs import parts_of, work_of
from graftwork.experiments.kinds import UNIT_KINDS, Unit
from graftwork.experiments.kinds.sizes import trained_weights
from graftwork.experiments.planning.checks import check_before
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.base import find_model
from graftwork.experiments.running.folder import read_result
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.run import read_tasks
from graftwork.experiments.running.run_context import RunContext
from graftwork.tasks import survey
from graftwork.training.encoding import middling
from graftwork.training.outputs import autocast_as, outputs_of

_STEPS = 4
_LINE = "{:10s} {:20s} {:>5} {:>5} {:>10} {:>12} {:>9}"


class Row(NamedTuple):
    """All units of one kind and task, how many of them are done, and what one of them trains.

    Steps (of one unit) and seconds (of all that are not done) are the most: early stopping only makes it less.
    """

    kind: str
    task: str
    units: int
    done: int
    steps: int
    trained_weights: int
    seconds: float


class Estimate(NamedTuple):
    """What a recipe would take, printable."""

    rows: tuple[Row, ...]

    @property
    def seconds(self) -> float:
        """Of everything that is not done, at most."""
        return sum(row.seconds for row in self.rows)

    def __str__(self) -> str:
        lines = [_LINE.format("kind", "task", "runs", "done", "steps each", "trained", "at most")]
        for *start, steps, weights, seconds in self.rows:
            lines.append(_LINE.format(*start, f"{steps:,d}", f"{weights:,d}", duration(seconds)))
        units = sum(row.units for row in self.rows)
        return "\n".join([*lines, f"{units} runs, at most {duration(self.seconds)} on this machine as it is now"])


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate(
    recipe: Recipe, *, root: str | Path = ".", run: str | Path | None = None, watcher: Watcher | None = None
) -> Estimate:
    """Measure a few steps of every kind of training in a recipe; nothing is kept.

    Args:
        recipe: The recipe.
        root: What its paths are relative to.
        run: The folder of a run of it that has begun, if there is one.
        watcher: Listens to what the data is.

    Raises:
        RecipeError: If the base cannot be loaded.
        TaskError: If a task's data cannot be used.
    """
    check_before(recipe, find_model(recipe.base.model, Path(root)))
    tasks = read_tasks(recipe, Path(root))
    groups: dict[tuple[str, str], list[Unit]] = {}
    for unit in plan(recipe):
        groups.setdefault((unit.label, unit.task), []).append(unit)
    with tempfile.TemporaryDirectory() as nowhere:
        context = RunContext(recipe, Path(root), Path(nowhere), tasks, from_files=False)
        surveys = [survey(task, context.processor, recipe.base.max_length) for task in tasks.values()]
        (watcher or Watcher()).surveyed(surveys)
        return Estimate(tuple(_row(group, context, None if run is None else Path(run)) for group in groups.values()))


def _row(units: list[Unit], context: RunContext, run: Path | None) -> Row:
    """Measure one of some units that differ in their seeds only, each task of it with rows of middling length."""
    unit, trained_on = units[0], UNIT_KINDS[units[0].kind].trained_on
    budget = context.recipe.budget(unit.kind, unit.method)
    learns = trained_on != "sequence" or not unit.members  # a sequence of trained adapters is scored only
    steps, seconds, weights = 0, 0.0, 0
    for part in parts_of(unit, (unit.task,) if trained_on == "task" else unit.tasks, context):
        task, adapters, active = part
        model: Any = adapters.model
        features, weights = context.encoded(task.name).features(task.train, train=True), trained_weights(adapters)
        chosen = middling(features, task.lengths(features), budget.batch_size)
        train = work_of(part, chosen, context.processor, budget)["train"]
        given = features[: budget.eval_batch_size], context.processor, budget.eval_batch_size
        score = functools.partial(outputs_of, model, task.kind, *given, autocast_as(model, budget.bf16))
        a_batch = min(repeat(train, number=1, repeat=_STEPS)[1:])
        with active():
            a_row = timeit(score, number=1) / len(given[0])
        batches, epochs = (math.ceil(len(features) / budget.batch_size), budget.epochs) if learns else (0, 1)
        steps += math.ceil(batches / budget.accumulation) * epochs
        seconds += epochs * (batches * a_batch + len(task.dev) * a_row)
    done = 0 if run is None else sum(read_result(one, run) is not None for one in units)
    return Row(unit.label, unit.task, len(units), done, steps, weights, (len(units) - done) * seconds)
