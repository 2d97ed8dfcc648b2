"""Adapters of several tasks trained in one pass, as a recipe's ``together`` says.

The pass has a file in the run's folder that names its units, and a folder with one checkpoint of them all; both are removed
when the last of them is written. A pass that failed keeps its file, so that no worker tries it again in this run.
"""

from __future__ import annotations

import gc
import shutil
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerState, set_seed

from graftwork.api import Adapters
from graftwork.errors import RecipeError
from graftwork.experiments.kinds import UNIT_KINDS, Stage, Unit
from graftwork.experiments.running.arguments import make_trainer, plain_arguments
from graftwork.experiments.running.checkpoints import Clock
from graftwork.experiments.running.claims import Claims
from graftwork.experiments.running.folder import CLOCK, is_done, remove, write_json
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.measuring import Measured, Result, measured
from graftwork.experiments.running.provenance import note_begun
from graftwork.experiments.running.records import Shape, read_record
from graftwork.experiments.running.run_context import RunContext
from graftwork.experiments.running.tracking import end_log, log, tracked, tracker_callbacks
from graftwork.experiments.running.unit import write_down
from graftwork.training.adapter_learner import Learner
from graftwork.training.together import CHECKPOINT, learn_together

_FOLDER = "together"


class _Pass(Shape):
    """The units of a pass by their ids, and whether each is trained by itself, because their pass failed."""

    units: list[str]
    apart: bool


def units_in_one_pass(
    unit: Unit, units: Sequence[Unit], done: Collection[str], context: RunContext, claims: Claims
) -> tuple[Unit, ...]:
    """The units that are trained in one pass with a unit that is not done, itself among them; the pass is written down.

    A unit has one pass, whichever worker asks first.

    Args:
        unit: The unit.
        units: All units of the run, in their order.
        done: The ids of those that are done.
        context: The context that they are trained in.
        claims: The claims of this worker.
    """
    if context.recipe.together < 2 or not _can_join(unit):
        return (unit,)
    with claims.locked(_FOLDER) as locked:
        if not locked:
            return ()
        passes = _passes(context.run)
        for one in passes.values():
            if unit.id in one["units"]:  # it goes on with the units that it was begun with
                return (unit,) if one["apart"] else tuple(u for u in units if u.id in one["units"])
        taken = {one for found in passes.values() for one in found["units"]} | {*done}
        alike = [one for one in units if _can_join(one) and one.seed == unit.seed and one.id not in taken]
        alike = [one for one in alike if not is_done(one, context.run)][: context.recipe.together]
        if len(alike) > 1:
            write_json(_file(alike, context.run), {"units": [one.id for one in alike], "apart": False})
        return tuple(alike) or (unit,)


def pass_folder(units: Sequence[Unit], run: Path) -> Path:
    """The folder of the checkpoint of a pass."""
    return run / _FOLDER / f"{units[0].task}-{units[0].seed}"


def _file(units: Sequence[Unit], run: Path) -> Path:
    folder = pass_folder(units, run)
    return folder.with_name(f"{folder.name}.json")


def train_apart(units: Sequence[Unit], run: Path) -> None:
    """Write down that the pass of some units failed, so that each is trained by itself."""
    write_json(_file(units, run), {"units": [one.id for one in units], "apart": True})


def begun_passes(run: Path) -> dict[Path, list[str]]:
    """The files of the passes that a run has begun, and the ids of their units."""
    return {file: one["units"] for file, one in _passes(run).items() if not one["apart"]}


def _passes(run: Path) -> dict[Path, dict[str, Any]]:
    """What the files of the passes say; one that cannot be read is removed."""
    found = {}
    for file in sorted((run / _FOLDER).glob("[!.]*.json")):
        try:
            found[file] = read_record(file, _Pass)
        except RecipeError as error:
            warnings.warn(f"{error}: the pass begins anew", stacklevel=2)
            file.unlink(missing_ok=True)
    return found


def discard_passes(run: Path, units: Collection[str] | None = None) -> None:
    """Remove the files of passes with some units; by default all of them, which a finished run does."""
    if units is None:
        shutil.rmtree(run / _FOLDER, ignore_errors=True)
        return
    for file, named in begun_passes(run).items():
        if not {*units}.isdisjoint(named):
            file.unlink(missing_ok=True)
            remove(file.with_suffix(""))


def _can_join(unit: Unit) -> bool:
    """Whether it is the adapter of a task that is stacked on no other adapter, which could differ from row to row."""
    return unit.kind == "adapter" and not unit.stacked_on


def train_in_one_pass(
    units: Sequence[Unit], done: Collection[str], context: RunContext, watcher: Watcher, folder: Path
) -> Iterator[tuple[Unit, Result]]:
    """Train units in one pass, or go on with it, and write their results one by one.

    Args:
        units: Adapters of different tasks, of one seed.
        done: The ids of units whose results are written already, by a pass that was interrupted after them.
        context: The context that they are trained in.
        watcher: The listener of the run.
        folder: The folder of its checkpoint.

    Yields:
        Each unit that was not done, with its result.

    Raises:
        TrainingError: If a loss is not a number.
    """
    set_seed(units[0].seed)
    adapters, stages, learners = context.fresh(), [], []
    for unit in units:  # each adapter and head as it would begin alone
        set_seed(unit.seed)
        stages.append(context.put(unit, adapters))
        encoded = context.encoded(unit.task, unit.seed)
        learners.append(Learner(unit.task, encoded, context.recipe.budget(unit.kind), unit.seed))
    resumed = (folder / CHECKPOINT).is_file()
    for unit in units:
        if unit.id not in done:
            note_begun(unit, context)
            watcher.begun(unit, resumed)
    name = str(pass_folder(units, context.run).relative_to(context.run))
    with tracked(context, name):
        clock = Clock(folder / CLOCK)
        _train(units, context, name, adapters, learners, folder, clock, watcher)
    steps = sum(learner.steps for learner in learners)
    for unit, stage, learner in zip(units, stages, learners, strict=True):
        if unit.id in done:
            continue
        result, predictions = _measured(unit, stage, learner, adapters, context)
        result["together"] = [other.id for other in units]
        # of the pass's time its share of the steps
        result["timings"]["train_seconds"] = round(clock.seconds * learner.steps / steps, 1)
        write_down(unit, context, result, predictions)
        yield unit, result
    del adapters, stages, learners
    gc.collect()  # they refer to one another: the memory of an accelerator too


def _train(
    units: Sequence[Unit],
    context: RunContext,
    name: str,
    adapters: Adapters,
    learners: list[Learner],
    folder: Path,
    clock: Clock,
    watcher: Watcher,
) -> None:
    named = {unit.task: unit for unit in units}
    model: Any = adapters.model
    arguments = plain_arguments(learners[0].budget, units[0].seed, folder, model.device)
    trackers = tracker_callbacks(context, name)

    def on_step(learner: Learner) -> None:
        watcher.stepped(named[learner.name], learner.steps, learner.steps_an_epoch * learner.budget.epochs)

    def on_epoch(learner: Learner, epoch: int, score: float) -> None:
        clock.keep()
        metric = learner.encoded.task.metric
        values = {"loss": learner.losses[-1][1], f"eval_{metric}": score, "eval_score": score}
        watcher.logged(named[learner.name], epoch, values)
        of_task = {f"eval_{learner.name}/{key.removeprefix('eval_')}": value for key, value in values.items()}
        log(trackers, arguments, model, learner.steps, of_task)

    learn_together(adapters, learners, seed=units[0].seed, folder=folder, on_epoch=on_epoch, on_step=on_step)
    end_log(trackers, arguments)
    clock.stop()


def _measured(unit: Unit, stage: Stage, learner: Learner, adapters: Adapters, context: RunContext) -> Measured:
    """Measure and save a unit as if it had been trained alone."""
    adapters.train_only(unit.task)
    trainer = make_trainer(unit, context, learner.budget, adapters, learner.encoded, [])
    losses = [{"step": step, "loss": loss} for step, loss in learner.losses]
    scores = [{"eval_score": score} for score in learner.scores]
    trainer.state = TrainerState(global_step=learner.steps, log_history=[*losses, *scores])
    result, predictions = measured(unit, context, trainer, adapters, stage)
    result["file_bytes"] = UNIT_KINDS[unit.kind].keep(unit, adapters, stage, context.folder(unit))
    return result, predictions
