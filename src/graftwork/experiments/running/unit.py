"""One unit of a run: trained, resumed where it was interrupted, measured, and written down."""

from __future__ import annotations

import gc
from typing import Any

from graftwork.experiments.kinds import UNIT_KINDS, JointKind, Unit
from graftwork.experiments.kinds.contract import trained_weights
from graftwork.experiments.running.arguments import make_joint_trainer, make_trainer
from graftwork.experiments.running.checkpoints import Clock, Finished, go_on, last_finished
from graftwork.experiments.running.folder import CHECKPOINTS, CLOCK, PREDICTIONS, RESULT, write_json
from graftwork.experiments.running.listeners import TrainerListener, Watcher
from graftwork.experiments.running.measuring import Measured, Result, measured, measured_joint
from graftwork.experiments.running.provenance import clean, note_begun, note_made
from graftwork.experiments.running.run_context import RunContext
from graftwork.experiments.running.sequence import go_through
from graftwork.experiments.running.tracking import tracked, tracker_callbacks
from graftwork.training.joint_trainer import JointTrainer
from graftwork.training.task_trainer import TaskTrainer


def run_unit(unit: Unit, context: RunContext, watcher: Watcher) -> Result:
    """Train a unit, or go on with it, and write its result.

    Raises:
        TrainingError: If the loss is not a number.
    """
    note_begun(unit, context)
    train = go_through if UNIT_KINDS[unit.kind].trained_on == "sequence" else _train
    with tracked(context, unit.id):
        clock = Clock(context.folder(unit) / CLOCK)
        result, predictions = train(unit, context, watcher, clock)
    result["timings"]["train_seconds"] = round(clock.seconds, 1)
    write_down(unit, context, result, predictions)
    gc.collect()  # a model and its Trainer refer to one another: the memory of an accelerator too
    return result


def _train(unit: Unit, context: RunContext, watcher: Watcher, clock: Clock) -> Measured:
    """Train a unit on one task, or on all tasks at once; measure and keep it."""
    folder, kind = context.folder(unit), UNIT_KINDS[unit.kind]
    checkpoint = last_finished(folder / CHECKPOINTS)
    adapters, stage = context.set_up(unit)
    budget = context.recipe.budget(unit.kind, unit.method)
    callbacks = [Finished(), clock, TrainerListener(watcher, unit), *tracker_callbacks(context, unit.id)]
    trainer: JointTrainer | TaskTrainer
    if isinstance(kind, JointKind):
        trainer = make_joint_trainer(unit, context, adapters, kind.routes(unit, context), callbacks)
    else:
        encoded = context.encoded(unit.task, unit.seed, few_shot=kind.few_shot)
        trainer = make_trainer(unit, context, budget, adapters, encoded, callbacks)
    watcher.begun(unit, checkpoint is not None)
    if trained_weights(adapters):
        go_on(trainer, checkpoint, budget)
    clock.stop()
    if isinstance(trainer, JointTrainer):
        result, predictions = measured_joint(unit, trainer, adapters)
    else:
        result, predictions = measured(unit, context, trainer, adapters, stage)
    result["file_bytes"] = kind.keep(unit, adapters, stage, folder)
    return result, predictions


def write_down(unit: Unit, context: RunContext, result: Result, predictions: Any) -> None:
    """Write the predictions and the result of a unit into its folder; once that is in its place, the unit is done."""
    folder = context.folder(unit)
    write_json(folder / PREDICTIONS, predictions)
    note_made(unit, context)
    write_json(folder / RESULT, result)
    clean(folder)
