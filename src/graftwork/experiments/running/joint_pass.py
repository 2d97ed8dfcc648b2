"""Adapters of several tasks trained in one pass, as a recipe's ``together`` says.

The pass has a folder of its own in the run's, with the units in it and one checkpoint of them all; it is removed when the
last of them is written.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from transformers import TrainerState, set_seed

from graftwork.api import Adapters
from graftwork.errors import RecipeError
from graftwork.experiments.kinds import UNIT_KINDS, Stage, Unit
from graftwork.experiments.running.arguments import make_trainer
from graftwork.experiments.running.checkpoints import Clock
from graftwork.experiments.running.folder import CLOCK, write_json
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.measuring import Measured, Result, measured
from graftwork.experiments.running.provenance import note_begun
from graftwork.experiments.running.records import read_record
from graftwork.experiments.running.run_context import RunContext
from graftwork.experiments.running.unit import write_down
from graftwork.training.adapter_learner import Learner
from graftwork.training.together import CHECKPOINT, learn_together

_FOLDER, _UNITS = "together", "units.json"


def units_in_one_pass(
    unit: Unit, units: Sequence[Unit], done: Collection[str], context: RunContext
) -> tuple[Unit, ...]:
    """The units that are trained in one pass with a unit that is not done, itself among them.

    Args:
        unit: The unit.
        units: All units of the run, in their order.
        done: The ids of those that are done.
        context: The context that they are trained in.
    """
    if context.recipe.together < 2 or not _can_join(unit):
        return (unit,)
    for _, named in begun_passes(context.run):
        if unit.id in named:  # interrupted: it goes on with the units that it was begun with
            return tuple(one for one in units if one.id in named)
    alike = [one for one in units if _can_join(one) and one.seed == unit.seed and one.id not in done]
    return tuple(alike[: context.recipe.together])


def begun_passes(run: Path) -> list[tuple[Path, list[str]]]:
    """The folders of the passes that a run has begun, and the ids of their units; one that cannot be read is removed."""
    found = []
    for folder in sorted((run / _FOLDER).glob("*")):
        try:
            found.append((folder, read_record(folder / _UNITS, list[str])))
        except RecipeError as error:
            warnings.warn(f"{error}: the pass begins anew", stacklevel=2)
            shutil.rmtree(folder, ignore_errors=True)
    return found


def discard_passes(run: Path, units: Collection[str] | None = None) -> None:
    """Remove the folders of passes with some units; by default all of them, which a finished run does."""
    if units is None:
        shutil.rmtree(run / _FOLDER, ignore_errors=True)
    for folder, named in begun_passes(run):
        if units is not None and not {*units}.isdisjoint(named):
            shutil.rmtree(folder, ignore_errors=True)


def _can_join(unit: Unit) -> bool:
    """Whether it is the adapter of a task that is stacked on no other adapter, which could differ from row to row."""
    return unit.kind == "adapter" and not unit.stacked_on


def train_in_one_pass(
    units: Sequence[Unit], done: Collection[str], context: RunContext, watcher: Watcher
) -> Iterator[tuple[Unit, Result]]:
    """Train units in one pass, or go on with it, and write their results one by one.

    Args:
        units: Adapters of different tasks, of one seed.
        done: The ids of units whose results are written already, by a pass that was interrupted after them.
        context: The context that they are trained in.
        watcher: The listener of the run.

    Yields:
        Each unit that was not done, with its result.

    Raises:
        TrainingError: If a loss is not a number.
    """
    first = units[0]
    folder = context.run / _FOLDER / f"{first.task}-{first.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _UNITS, [unit.id for unit in units])
    set_seed(first.seed)
    adapters, stages, learners = context.fresh(), [], []
    for unit in units:  # each adapter and head as it would begin alone
        set_seed(unit.seed)
        stages.append(context.put(unit, adapters))
        learners.append(Learner(unit.task, context.encoded(unit.task), context.recipe.budget(unit.kind), unit.seed))
    resumed = (folder / CHECKPOINT).is_file()
    for unit in units:
        if unit.id not in done:
            note_begun(unit, context)
            watcher.begun(unit, resumed)
    clock = Clock(folder / CLOCK)
    _train(units, adapters, learners, folder, clock, watcher)
    steps = sum(learner.steps for learner in learners)
    for unit, stage, learner in zip(units, stages, learners, strict=True):
        if unit.id in done:
            continue
        result, predictions = _measured(unit, stage, learner, adapters, context)
        result["together"] = [other.id for other in units]
        # of the pass's time its share of the steps
        result["timings"]["train_seconds"] = round(clock.seconds * learner.steps / steps, 1)
        write_down(unit, context, result, predictions)
        watcher.ended(unit, result)
        yield unit, result
    shutil.rmtree(folder, ignore_errors=True)


def _train(
    units: Sequence[Unit], adapters: Adapters, learners: list[Learner], folder: Path, clock: Clock, watcher: Watcher
) -> None:
    named = {unit.task: unit for unit in units}

    def on_step(learner: Learner) -> None:
        watcher.stepped(named[learner.name], learner.steps, learner.steps_an_epoch * learner.budget.epochs)

    def on_epoch(learner: Learner, epoch: int, score: float) -> None:
        clock.keep()
        metric = learner.encoded.task.metric
        values = {"loss": learner.losses[-1][1], f"eval_{metric}": score, "eval_score": score}
        watcher.logged(named[learner.name], epoch, values)

    learn_together(adapters, learners, seed=units[0].seed, folder=folder, on_epoch=on_epoch, on_step=on_step)
    clock.stop()


def _measured(unit: Unit, stage: Stage, learner: Learner, adapters: Adapters, context: RunContext) -> Measured:
    """Measure and save a unit as if it had been trained alone."""
    adapters.train_only(unit.task)
    trainer = make_trainer(unit, context.run, learner.budget, adapters, learner.encoded, [])
    losses = [{"step": step, "loss": loss} for step, loss in learner.losses]
    scores = [{"eval_score": score} for score in learner.scores]
    trainer.state = TrainerState(global_step=learner.steps, log_history=[*losses, *scores])
    result, predictions = measured(unit, context, trainer, adapters, stage)
    result["file_bytes"] = UNIT_KINDS[unit.kind].keep(unit, adapters, stage, context.folder(unit))
    return result, predictions
