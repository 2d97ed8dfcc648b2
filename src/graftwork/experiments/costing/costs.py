"""What results do not say: the time of a step and of an answer, and the memory of both, as ratios to full fine-tuning.

All under equal conditions: the same rows of one task, of middling length, in one batch. A method and full fine-tuning are
timed in turn in one process, so that noise meets both, and the median of the ratios counts; the memory is that of a fresh
process which does nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from timeit import timeit
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.utils import logging

from graftwork.api import Adapters
from graftwork.errors import TrainingError
from graftwork.experiments.costing.memory import forget_highest, highest_memory
from graftwork.experiments.kinds import KINDS, REFERENCE, UNIT_KINDS, JointKind, Unit
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.folder import COSTS, write_json
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.records import Costs, read_record
from graftwork.experiments.running.run_context import RunContext
from graftwork.tasks import Rows, Task
from graftwork.training.budget import StageBudget
from graftwork.training.encoding import Encoded, Feature, batch_of, middling
from graftwork.training.outputs import autocast_as

_ROUNDS = 7
Work = dict[str, Callable[[], None]]
Part = tuple[Task, Adapters, Callable[[], Any]]  # the model, and the context in which it computes the task


def parts_of(unit: Unit, tasks: Iterable[str], context: RunContext) -> Iterator[Part]:
    """Each of some tasks of a unit, on a fresh base; what learns all at once is set up once for all."""
    kind = UNIT_KINDS[unit.kind]
    shared = None if kind.trained_on == "sequence" else context.set_up(unit)[0]
    for task in tasks:
        adapters = shared or context.set_up(unit.step(task))[0]
        route = kind.route(unit, task, context) if isinstance(kind, JointKind) else None
        yield context.tasks[task], adapters, partial(route.on, adapters) if route else contextlib.nullcontext


def work_of(part: Part, features: list[Feature], processor: Any, budget: StageBudget) -> Work:
    """The calls that are measured: ``"train"``, one step that moves nothing, and ``"inference"``, one forward pass."""
    task, adapters, active = part
    model: Any = adapters.model
    batch, autocast = batch_of(model, task.kind, features, processor), autocast_as(model, budget.bf16)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)

    def train() -> None:
        model.train()
        with active():
            with autocast():
                loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            float(loss.detach())  # wait for the accelerator

    def inference() -> None:
        model.eval()
        with active(), torch.no_grad(), autocast():
            model(**batch).logits.float().cpu()

    return {"train": train, "inference": inference}


class MeasurementSpec(NamedTuple):
    """One training of a line and the batch that it is measured with; ``where`` is all that a `RunContext` is made of."""

    where: tuple[Recipe, Path, Path, Mapping[str, Task]]
    unit: Unit
    task: str
    features: list[Feature]

    def set_up(self, context: RunContext) -> Work:
        """What is measured, on a fresh base; adapters that it depends on are made anew."""
        budget = context.recipe.training
        (part,) = parts_of(self.unit, [self.task], context)
        model: Any = part[1].model
        if budget.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return work_of(part, self.features, context.processor, budget)


def measure_costs(
    recipe: Recipe, run: Path, tasks: Mapping[str, Task], root: Path, watcher: Watcher | None = None
) -> dict[str, Any]:
    """Measure everything that is compared on the first target; what ``costs.json`` has already is not measured again.

    Args:
        recipe: The comparison.
        run: Its folder.
        tasks: Its tasks, read.
        root: What its paths are relative to.
        watcher: Listens to what is measured.

    Returns:
        ``{"batch": {...}, "lines": {label: {...}}}``: seconds, bytes, and the ratio of each to full fine-tuning.

    Raises:
        TrainingError: If a process that measures memory ends before it has.
    """
    target = recipe.targets[0]
    of_target = [unit for unit in plan(recipe) if target in (unit.task, *unit.tasks)]
    of_target.sort(key=lambda unit: (unit.kind != REFERENCE, KINDS.index(unit.kind)))  # full fine-tuning first
    context = RunContext(recipe, root, run, tasks, from_files=False)
    features, batch = _batch(recipe, tasks[target], context.processor)
    before = read_costs(run)
    known = before["lines"] if before is not None and before["batch"] == batch else {}
    bare = {
        name: dataclasses.replace(t, train=Rows(()), dev=Rows(()), test=None, elsewhere={}) for name, t in tasks.items()
    }
    where = recipe, root.resolve(), run.resolve(), bare
    specs: dict[str, MeasurementSpec] = {}
    for unit in of_target:
        specs.setdefault(unit.label, MeasurementSpec(where, unit, target, features))
    yardstick: Work = {}
    for label in [label for label in specs if label not in known]:
        (watcher or Watcher()).message(f"measuring time and memory: {label}")
        yardstick = yardstick or specs[REFERENCE].set_up(context)
        one = yardstick if label == REFERENCE else specs[label].set_up(context)
        known[label] = {**_timed(one, yardstick), **_in_a_process(peaks, specs[label], label)}
        _write(run, batch, known)
    return _write(run, batch, known)


def read_costs(run: Path) -> dict[str, Any] | None:
    """What was measured in a folder; ``None`` where nothing was."""
    path = run / COSTS
    return read_record(path, Costs) if path.is_file() else None


def peaks(spec: MeasurementSpec) -> dict[str, int]:
    """The highest memory of two answers, then of two steps, in bytes beyond what the process has without a model.

    To be called in a process of its own. On an accelerator its memory counts, else that of the process.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    nn.Linear(8, 8)(torch.ones(8, 8)).sum().backward()  # what torch sets up once is no model's
    context = RunContext(*spec.where, from_files=False)
    bare = 0 if torch.cuda.is_available() else highest_memory()
    work, found = spec.set_up(context), {}
    for name in ("inference", "train"):
        forget_highest()
        timeit(work[name], number=2)
        found[f"{name}_bytes"] = max(0, highest_memory() - bare)
    return found


def _batch(recipe: Recipe, task: Task, processor: Any) -> tuple[list[Feature], dict[str, Any]]:
    """The features of the batch, and what is to be said of it."""
    budget = recipe.training
    features = Encoded(task, processor, recipe.base.max_length).features(task.train, train=True)
    chosen = middling(features, task.lengths(features), budget.batch_size)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    told = {"task": task.name, "rows": len(chosen), "length": max(task.lengths(chosen)), "bf16": budget.bf16}
    more = {"gradient_checkpointing": budget.gradient_checkpointing, "device": device, "rounds": _ROUNDS}
    return chosen, {**told, **more}


def _timed(one: Work, yardstick: Work) -> dict[str, float]:
    """The median seconds of a step and of an answer, and the median of their ratios to the yardstick's."""
    found: dict[str, float] = {}
    for name, ours in one.items():
        theirs = yardstick[name]
        rounds = []
        for number in range(_ROUNDS + 1):
            order = (ours, theirs) if number % 2 else (theirs, ours)  # so that neither always has the warm cache
            spent = {work: timeit(work, number=1) for work in order}
            rounds.append((spent[ours], spent[ours] / spent[theirs]))
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


def _write(run: Path, batch: Mapping[str, Any], lines: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Write what is known, with the memory as ratios."""
    full, told = lines[REFERENCE], {}
    for label, one in lines.items():
        sizes = [(name, one[f"{name}_bytes"], full[f"{name}_bytes"]) for name in ("train", "inference")]
        told[label] = {**one, **{f"{name}_memory_ratio": size / whole for name, size, whole in sizes if whole}}
    found = {"format": 1, "batch": dict(batch), "lines": told}
    write_json(run / COSTS, found)
    return found
