"""What trainings cost: of a comparison the time and memory of a step and of an answer, and of a recipe the time in all.

The lines of a comparison are measured under equal conditions: the same rows of one task, of middling length, in one batch. A
method and full fine-tuning are timed in turn, so that noise affects both, and the median of the ratios counts; the memory is
that of a new process which does nothing else. A recipe's time is estimated from a few steps of every kind of training.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import re
import resource
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from timeit import repeat, timeit
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.utils import logging

from graftwork.api import Adapters
from graftwork.errors import TrainingError
from graftwork.experiments.kinds import KINDS, REFERENCE, UNIT_KINDS, JointKind, Unit
from graftwork.experiments.kinds.contract import trained_weights
from graftwork.experiments.planning.checks import check_before
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.base import find_model
from graftwork.experiments.running.folder import COSTS, read_result, write_json
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.records import Costs, read_record
from graftwork.experiments.running.run import read_tasks
from graftwork.experiments.running.run_context import RunContext
from graftwork.tasks import Rows, Task, survey
from graftwork.training.budget import StageBudget
from graftwork.training.encoding import Feature, batch_of, middling
from graftwork.training.outputs import autocast_as, outputs_of

_ROUNDS, _STEPS = 7, 4  # of a comparison, and of an estimate
_LINE = "{:10s} {:20s} {:>5} {:>5} {:>10} {:>12} {:>9}"
Work = dict[str, Callable[[], None]]
Part = tuple[Task, Adapters, Callable[[], Any]]  # the model, and the context in which it computes the task


class MeasurementSpec(NamedTuple):
    """What is measured: a unit of a line, with a batch of a task; ``where`` is what a `RunContext` is made of."""

    where: tuple[Recipe, Path, Path, Mapping[str, Task]]
    unit: Unit
    task: str
    features: list[Feature]

    def set_up(self, context: RunContext) -> Work:
        """The calls that are measured, on a fresh base; adapters that the unit depends on are made anew."""
        budget = context.recipe.training
        (part,) = parts_of(self.unit, [self.task], context)
        if budget.gradient_checkpointing:
            model: Any = part[1].model
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return work_of(part, self.features, context.processor, budget)


def parts_of(unit: Unit, tasks: Iterable[str], context: RunContext) -> Iterator[Part]:
    """Some tasks of a unit, each on a fresh base; a unit that is trained on all at once is set up once."""
    kind = UNIT_KINDS[unit.kind]
    shared = None if kind.trained_on == "sequence" else context.set_up(unit)[0]
    for task in tasks:
        adapters = shared or context.set_up(unit.step(task))[0]
        route = kind.route(unit, task, context) if isinstance(kind, JointKind) else None
        yield (
            context.tasks[task].of_seed(unit.seed),
            adapters,
            partial(route.on, adapters) if route else contextlib.nullcontext,
        )


def work_of(part: Part, features: list[Feature], processor: Any, budget: StageBudget) -> Work:
    """The calls that are measured: ``"train"``, one step that changes no weight, and ``"inference"``, one forward pass."""
    task, adapters, active = part
    model: Any = adapters.model
    batch = batch_of(model, task.kind, features, processor)
    autocast = autocast_as(model, budget.precision_on(model.device))
    weights = list(adapters.trainable_parameters())
    optimizer = torch.optim.AdamW(weights, lr=0.0) if weights else None

    def train() -> None:
        model.train()
        with active():
            with autocast():
                loss = model(**batch).loss
            if optimizer is not None:  # else the base answers as it is
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            float(loss.detach())  # wait for the accelerator

    def inference() -> None:
        model.eval()
        with active(), torch.no_grad(), autocast():
            model(**batch).logits.float().cpu()

    return {"train": train, "inference": inference}


def measure_costs(
    recipe: Recipe, run: Path, tasks: Mapping[str, Task], root: Path, watcher: Watcher | None = None
) -> dict[str, Any]:
    """Measure every line of a comparison on its first target, except for those that ``costs.json`` has already.

    Returns its content, ``{"batch": {...}, "lines": {label: {...}}}``: seconds, bytes, and ratios to full fine-tuning.
    """
    target, budget = recipe.targets[0], recipe.training
    context = RunContext(recipe, root, run, tasks, from_files=False)
    encoded = context.encoded(target, recipe.seeds[0])
    task, features = encoded.task, encoded.features(encoded.task.train, train=True)
    chosen = middling(features, task.lengths(features), budget.batch_size)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    batch = {"task": target, "rows": len(chosen), "length": max(task.lengths(chosen))}
    where_to = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch["bf16"] = budget.precision_on(where_to) == "bfloat16"
    batch |= {"gradient_checkpointing": budget.gradient_checkpointing, "device": device, "rounds": _ROUNDS}
    none = Rows(())
    bare = {name: dataclasses.replace(t, train=none, dev=none, test=None, elsewhere={}) for name, t in tasks.items()}
    where = recipe, root.resolve(), run.resolve(), bare
    units = [unit for unit in plan(recipe) if target in (unit.task, *unit.tasks)]
    units.sort(key=lambda unit: (unit.kind != REFERENCE, KINDS.index(unit.kind)))  # full fine-tuning first
    specs: dict[str, MeasurementSpec] = {}
    for unit in units:
        specs.setdefault(unit.label, MeasurementSpec(where, unit, target, chosen))
    before = read_costs(run)
    lines: dict[str, Any] = before["lines"] if before is not None and before["batch"] == batch else {}
    found = {"format": 1, "batch": batch, "lines": lines}
    reference: Work = {}
    for label in [label for label in specs if label not in lines]:
        (watcher or Watcher()).message(f"measuring time and memory: {label}")
        reference = reference or specs[REFERENCE].set_up(context)
        work = reference if label == REFERENCE else specs[label].set_up(context)
        lines[label] = {**_timed(work, reference), **_in_a_process(peaks, specs[label], label)}
        for name in ("train", "inference"):
            if whole := lines[REFERENCE][f"{name}_bytes"]:
                lines[label][f"{name}_memory_ratio"] = lines[label][f"{name}_bytes"] / whole
        write_json(run / COSTS, found)
    return found


def read_costs(run: Path) -> dict[str, Any] | None:
    """The costs that were measured in a folder; ``None`` where none were."""
    path = run / COSTS
    return read_record(path, Costs) if path.is_file() else None


def peaks(spec: MeasurementSpec) -> dict[str, int]:
    """The highest memory of two answers, then of two steps, beyond that without a model; to be called in a process of its own."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    nn.Linear(8, 8)(torch.ones(8, 8)).sum().backward()  # what torch allocates once does not count
    context = RunContext(*spec.where, from_files=False)
    bare = 0 if torch.cuda.is_available() else highest_memory()
    work, found = spec.set_up(context), {}
    for name in ("inference", "train"):
        forget_highest()
        timeit(work[name], number=2)
        found[f"{name}_bytes"] = max(0, highest_memory() - bare)
    return found


def forget_highest() -> None:
    """Reset the highest memory to what is in use now, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def highest_memory() -> int:
    """The highest memory so far in bytes: of the accelerator where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):  # on Linux ru_maxrss will not do: a new process takes over that of its parent
        if found := re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text()):
            return 1024 * int(found[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _timed(work: Work, reference: Work) -> dict[str, float]:
    """The median seconds of a step and of an answer, and the median of their ratios to the reference."""
    found: dict[str, float] = {}
    for name, call in work.items():
        other, rounds = reference[name], []
        for number in range(_ROUNDS + 1):
            order = (call, other) if number % 2 else (other, call)  # so that neither always has the warm cache
            spent = {one: timeit(one, number=1) for one in order}
            rounds.append((spent[call], spent[call] / spent[other]))
        seconds, ratios = zip(*rounds[1:], strict=True)  # the first one warms up
        found |= {f"{name}_seconds": statistics.median(seconds), f"{name}_ratio": statistics.median(ratios)}
    return found


def _in_a_process(
    work: Callable[[MeasurementSpec], dict[str, int]], spec: MeasurementSpec, label: str
) -> dict[str, int]:
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(work, spec).result()
    except BrokenProcessPool as error:
        raise TrainingError(
            f"{label}: the process that measures its memory ended before it had. In a script of your own, put what calls "
            "compare under if __name__ == '__main__'; where memory is short, leave the costs out (--no-costs)"
        ) from error


class Row(NamedTuple):
    """All units of one kind and task; ``steps`` (of one) and ``seconds`` (of all not done) are the most, without early stopping."""

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
        """The seconds of everything that is not done, at most."""
        return sum(row.seconds for row in self.rows)

    def __str__(self) -> str:
        lines = [_LINE.format("kind", "task", "runs", "done", "steps each", "trained", "at most")]
        for *start, steps, weights, seconds in self.rows:
            lines.append(_LINE.format(*start, f"{steps:,d}", f"{weights:,d}", _duration(seconds)))
        units = sum(row.units for row in self.rows)
        return "\n".join([*lines, f"{units} runs, at most {_duration(self.seconds)} on this machine as it is now"])


def _duration(seconds: float) -> str:
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
        watcher: A listener that is called with a survey of the data.

    Raises:
        RecipeError: If the base cannot be loaded.
        TaskError: If a task's data cannot be used.
    """
    root, folder = Path(root), None if run is None else Path(run)
    check_before(recipe, find_model(recipe.base.model, root))
    context = RunContext(recipe, root, folder or root, read_tasks(recipe, root), from_files=False)
    surveys = [survey(task, context.processor, recipe.base.max_length) for task in context.tasks.values()]
    (watcher or Watcher()).surveyed(surveys)
    groups: dict[tuple[str, str], list[Unit]] = {}
    for unit in plan(recipe):
        groups.setdefault((unit.label, unit.task), []).append(unit)
    return Estimate(tuple(_row(group, context, folder) for group in groups.values()))


def _row(units: list[Unit], context: RunContext, run: Path | None) -> Row:
    """Measure one of some units that differ in their seeds only, each task of it with rows of middling length."""
    unit, trained_on = units[0], UNIT_KINDS[units[0].kind].trained_on
    budget = context.recipe.budget(unit.kind, unit.method)
    steps, seconds, weights = 0, 0.0, 0
    for part in parts_of(unit, (unit.task,) if trained_on == "task" else unit.tasks, context):
        task, adapters, active = part
        model: Any = adapters.model
        features, weights = (
            context.encoded(task.name, unit.seed).features(task.train, train=True),
            trained_weights(adapters),
        )
        # a sequence of trained adapters is only scored, and so is a base as it is
        trains = weights > 0 and (trained_on != "sequence" or not unit.members)
        chosen = middling(features, task.lengths(features), budget.batch_size)
        train = work_of(part, chosen, context.processor, budget)["train"]
        scored = features[: budget.eval_batch_size], context.processor, budget.eval_batch_size
        score = partial(outputs_of, model, task.kind, *scored, autocast_as(model, budget.precision_on(model.device)))
        a_batch = min(repeat(train, number=1, repeat=_STEPS)[1:])
        with active():
            a_row = timeit(score, number=1) / len(scored[0])
        batches, epochs = (math.ceil(len(features) / budget.batch_size), budget.epochs) if trains else (0, 1)
        steps += math.ceil(batches / budget.accumulation) * epochs
        seconds += epochs * (batches * a_batch + len(task.dev) * a_row)
    done = 0 if run is None else sum(read_result(one, run) is not None for one in units)
    return Row(unit.label, unit.task, len(units), done, steps, weights, (len(units) - done) * seconds)
