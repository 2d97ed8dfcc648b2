"""What results do not say: the time of a step and of an answer, and the memory of both, as ratios to full fine-tuning.

All under equal conditions: the same rows of one task, of middling length, in one batch. A method and full fine-tuning are
timed in turn in one process, so that noise meets both, and the median of the ratios counts; the memory is that of a fresh
process which does nothing else.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from graftwork.errors import TrainingError
from graftwork.tasks import Task
from graftwork.training.costing.standing import Asked, Standing, peaks, without_rows
from graftwork.training.planning.budget import StageBudget
from graftwork.training.planning.kinds import KINDS, REFERENCE
from graftwork.training.planning.plan import Unit, plan
from graftwork.training.planning.recipe import Recipe
from graftwork.training.running.folder import COSTS, write_json
from graftwork.training.running.records import Costs, read_record
from graftwork.training.running.watching import Watcher
from graftwork.training.running.workshop import Workshop
from graftwork.training.trainers.encoding import Encoded, middling

_ROUNDS = 7
_WORK = {"train": "learn", "inference": "answer"}


def measure_costs(
    recipe: Recipe, run: Path, tasks: Mapping[str, Task], root: Path, watcher: Watcher | None = None
) -> dict[str, Any]:
    """Measure everything that is compared on the first target; what ``costs.json`` has already is not measured again.

    Args:
        recipe: The comparison.
        run: Its folder.
        tasks: Its tasks, read.
        root: What its paths are relative to.
        watcher: Is told what is measured.

    Returns:
        ``{"batch": {...}, "lines": {label: {...}}}``: seconds, bytes, and the ratio of each to full fine-tuning.

    Raises:
        TrainingError: If a process that measures memory ends before it has.
    """
    watcher = Watcher() if watcher is None else watcher
    target = recipe.targets[0]
    units = _lines(plan(recipe), target)
    shop = Workshop(recipe, root, run, tasks)
    budget = recipe.training
    encoded = Encoded(tasks[target], shop.processor, recipe.base.max_length)
    features, batch = _batch(encoded, budget)
    before = read_costs(run)
    known = before["lines"] if before is not None and before["batch"] == batch else {}
    bare = {name: without_rows(task) for name, task in tasks.items()}
    tables = recipe.model_dump(mode="json", exclude_unset=True)
    asked = {
        label: Asked(tables, root.resolve(), run.resolve(), bare, unit, target, features, budget)
        for label, unit in units.items()
    }
    yardstick: Standing | None = None
    for label, one in asked.items():
        if label in known:
            continue
        watcher.said(f"measuring time and memory: {label}")
        yardstick = yardstick or Standing(asked[REFERENCE], shop)
        other = yardstick if label == REFERENCE else Standing(one, shop)
        known[label] = {**_timed(other, yardstick), **_in_a_process(peaks, one, label)}
        _write(run, batch, known)
    return _write(run, batch, known)


def read_costs(run: Path) -> dict[str, Any] | None:
    """What was measured in a folder; ``None`` where nothing was."""
    path = run / COSTS
    return read_record(path, Costs) if path.is_file() else None


def _lines(units: Sequence[Unit], target: str) -> dict[str, Unit]:
    """One unit of each line that the target has, full fine-tuning first."""
    found: dict[str, Unit] = {}
    for unit in sorted(units, key=lambda unit: KINDS.index(unit.kind)):
        if target in (unit.task, *unit.tasks):
            found.setdefault(unit.label, unit)
    return {REFERENCE: found[REFERENCE], **found}


def _batch(encoded: Encoded, budget: StageBudget) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The features of the batch, and what is to be said of it."""
    task = encoded.task
    features = encoded.features(task.train, train=True)
    chosen = middling(features, task.lengths(features), budget.batch_size)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return chosen, {
        "task": task.name,
        "rows": len(chosen),
        "length": max(task.lengths(chosen)),
        "bf16": budget.bf16,
        "gradient_checkpointing": budget.gradient_checkpointing,
        "device": device,
        "rounds": _ROUNDS,
    }


def _timed(one: Standing, yardstick: Standing) -> dict[str, float]:
    """The median seconds of a step and of an answer, and the median of their ratios to the yardstick's."""
    found: dict[str, float] = {}
    for name, work in _WORK.items():
        ours, theirs = getattr(one, work), getattr(yardstick, work)
        rounds = [_round(ours, theirs, number) for number in range(_ROUNDS + 1)][1:]  # the first one warms up
        found[f"{name}_seconds"] = statistics.median(ours for ours, _ in rounds)
        found[f"{name}_ratio"] = 1.0 if one is yardstick else statistics.median(ours / bare for ours, bare in rounds)
    return found


def _round(ours: Callable[[], None], theirs: Callable[[], None], number: int) -> tuple[float, float]:
    """The seconds of both, the order in turn, so that neither is always the one with the warm cache."""
    if number % 2:
        mine = _once(ours)
        return mine, _once(theirs)
    bare = _once(theirs)
    return _once(ours), bare


def _once(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _in_a_process(work: Callable[[Asked], dict[str, int]], asked: Asked, label: str) -> dict[str, int]:
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(work, asked).result()
    except BrokenProcessPool as error:
        raise TrainingError(
            f"{label}: the process that measures its memory ended before it had. In a script of your own, put what calls "
            "compare under if __name__ == '__main__'; where memory is short, leave the costs out (--no-costs)"
        ) from error


def _write(run: Path, batch: Mapping[str, Any], lines: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Write what is known, with the memory as ratios."""
    full = lines[REFERENCE]
    told = {}
    for label, one in lines.items():
        memory = {
            f"{name}_memory_ratio": one[f"{name}_bytes"] / full[f"{name}_bytes"]
            for name in _WORK
            if full[f"{name}_bytes"]
        }
        told[label] = {**one, **memory}
    found = {"format": 1, "batch": dict(batch), "lines": told}
    write_json(run / COSTS, found)
    return found
