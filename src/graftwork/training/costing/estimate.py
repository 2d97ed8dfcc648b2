"""What a recipe would take: its trainings, their weights and steps, and the time, from a few measured steps of each kind."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graftwork.api import Adapters
from graftwork.tasks import Task, survey
from graftwork.training.costing.standing import step_of
from graftwork.training.planning.budget import StageBudget
from graftwork.training.planning.checks import check_before
from graftwork.training.planning.kinds import UNIT_KINDS
from graftwork.training.planning.plan import Unit, plan
from graftwork.training.planning.recipe import Recipe
from graftwork.training.running.base import find_model
from graftwork.training.running.folder import read_result
from graftwork.training.running.joint import set_up_joint
from graftwork.training.running.kept import trained_weights
from graftwork.training.running.run import read_tasks
from graftwork.training.running.watching import Watcher
from graftwork.training.running.workshop import Workshop
from graftwork.training.trainers.encoding import batch_of, middling
from graftwork.training.trainers.joint_trainer import Way
from graftwork.training.trainers.outputs import autocast_as, outputs_of

_STEPS = 4


@dataclasses.dataclass(frozen=True)
class Row:
    """All units of one kind and task.

    Attributes:
        kind: The kind.
        task: The task.
        units: How many there are.
        done: How many of them are done already.
        steps: Steps of the optimiser of one unit, at most.
        trained_weights: How many weights learn.
        seconds: Of all that are not done, at most: early stopping only makes it less.
    """

    kind: str
    task: str
    units: int
    done: int
    steps: int
    trained_weights: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a recipe would take, printable."""

    rows: tuple[Row, ...]

    @property
    def seconds(self) -> float:
        """Of everything that is not done, at most."""
        return sum(row.seconds for row in self.rows)

    def __str__(self) -> str:
        lines = [
            f"{'kind':10s} {'task':20s} {'runs':>5s} {'done':>5s} {'steps each':>10s} {'trained':>12s} {'at most':>9s}"
        ]
        for row in self.rows:
            lines.append(
                f"{row.kind:10s} {row.task:20s} {row.units:5d} {row.done:5d} {row.steps:10,d} {row.trained_weights:12,d} "
                f"{duration(row.seconds):>9s}"
            )
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
        watcher: Is told what the data is.

    Raises:
        RecipeError: If the base cannot be loaded.
        TaskError: If a task's data cannot be used.
    """
    check_before(recipe, find_model(recipe.base.model, Path(root)))
    tasks, units = read_tasks(recipe, Path(root)), plan(recipe)
    groups: dict[tuple[str, str], list[Unit]] = {}
    for unit in units:
        groups.setdefault((unit.label, unit.task), []).append(unit)
    with tempfile.TemporaryDirectory() as nowhere:
        shop = Workshop(recipe, Path(root), Path(nowhere), tasks)
        surveys = [survey(task, shop.processor, recipe.base.max_length) for task in tasks.values()]
        if watcher is not None:
            watcher.surveyed(surveys)
        rows = [_measured(group, shop, recipe, None if run is None else Path(run)) for group in groups.values()]
    return Estimate(tuple(rows))


def _measured(units: list[Unit], shop: Workshop, recipe: Recipe, run: Path | None) -> Row:
    unit, budget = units[0], recipe.budget(units[0].kind, units[0].method)
    parts = list(_PARTS[UNIT_KINDS[unit.kind].over](unit, shop))
    steps, seconds = 0, 0.0
    for part in parts:
        a_batch, a_row = part.measured(shop, budget)
        batches = math.ceil(len(part.features) / budget.batch_size) if part.learns else 0
        steps += math.ceil(batches / budget.accumulation) * budget.epochs
        seconds += (
            budget.epochs * batches * a_batch + (budget.epochs if part.learns else 1) * len(part.task.dev) * a_row
        )
    done = 0 if run is None else sum(read_result(u, run) is not None for u in units)
    return Row(unit.label, unit.task, len(units), done, steps, parts[-1].weights, (len(units) - done) * seconds)


@dataclasses.dataclass(frozen=True)
class _Part:
    """A task in a unit: the model with what goes on it, and its features; ``way`` where that is not active by itself."""

    grafts: Adapters
    task: Task
    features: list[dict[str, Any]]
    weights: int
    way: Way | None = None
    learns: bool = True

    def measured(self, shop: Workshop, budget: StageBudget) -> tuple[float, float]:
        """The seconds of a batch that is learnt from, and of a row that is scored."""
        with contextlib.nullcontext() if self.way is None else self.way.on(self.grafts):
            return _seconds(self.grafts.model, self.task, self.features, shop, budget)


def _part(shop: Workshop, task: str, grafts: Adapters, way: Way | None = None, learns: bool = True) -> _Part:
    features = shop.encoded(task).features(shop.tasks[task].train, train=True)
    return _Part(grafts, shop.tasks[task], features, trained_weights(grafts), way, learns)


def _of_a_task(unit: Unit, shop: Workshop) -> Iterator[_Part]:
    yield _part(shop, unit.task, shop.set_up(unit, trained=False)[0])


def _of_all(unit: Unit, shop: Workshop) -> Iterator[_Part]:
    grafts, ways = set_up_joint(unit, shop)
    for task, way in ways.items():
        yield _part(shop, task, grafts, way)


def _of_a_sequence(unit: Unit, shop: Workshop) -> Iterator[_Part]:
    for task in unit.tasks:
        grafts, _ = shop.set_up(unit.step(task), trained=False)
        yield _part(shop, task, grafts, learns=not unit.members)


_PARTS = {"task": _of_a_task, "all": _of_all, "sequence": _of_a_sequence}


def _seconds(
    model: Any, task: Task, features: list[dict[str, Any]], shop: Workshop, budget: Any
) -> tuple[float, float]:
    """The seconds of a batch that is learnt from, and of a row that is scored; of rows of middling length."""
    chosen = middling(features, task.lengths(features), budget.batch_size)
    batch = batch_of(model, task.kind, chosen, shop.processor)
    autocast = autocast_as(model, budget.bf16)
    step, times = step_of(model, batch, autocast), []
    for _ in range(_STEPS):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    rows = features[: min(len(features), budget.eval_batch_size)]
    began = time.perf_counter()
    outputs_of(model, task.kind, rows, shop.processor, budget.eval_batch_size, autocast)
    return min(times[1:]), (time.perf_counter() - began) / len(rows)
