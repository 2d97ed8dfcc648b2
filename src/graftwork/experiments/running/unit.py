"""One unit of a run: trained, resumed where it was interrupted, measured, and written down."""

from __future__ import annotations

from typing import Any

from graftwork.experiments.kinds import UNIT_KINDS, Unit
from graftwork.experiments.running.checkpoints import last_finished
from graftwork.experiments.running.folder import CHECKPOINTS, CLOCK, PREDICTIONS, RESULT, write_json
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.provenance import clean, note_begun, note_made
from graftwork.experiments.running.resume import Clock, go_on
from graftwork.experiments.running.run_context import RunContext
from graftwork.experiments.running.sequence import go_through
from graftwork.experiments.running.work import Work, joint_work, single_work

Result = dict[str, Any]


def run_unit(unit: Unit, context: RunContext, watcher: Watcher) -> Result:
    """Train a unit, or go on with it, and write its result.

    Raises:
        TrainingError: If the loss is not a number.
    """
    clock = Clock(unit.folder(context.run) / CLOCK)
    note_begun(unit, context)
    if UNIT_KINDS[unit.kind].trained_on == "sequence":
        result, predictions = go_through(unit, context, watcher, clock)
    else:
        result, predictions = _trained(unit, context, watcher, clock)
    result["timings"]["train_seconds"] = round(clock.seconds, 1)
    write_down(unit, context, result, predictions)
    watcher.ended(unit, result)
    return result


def _trained(unit: Unit, context: RunContext, watcher: Watcher, clock: Clock) -> tuple[Result, Any]:
    checkpoint = last_finished(unit.folder(context.run) / CHECKPOINTS)
    make = joint_work if UNIT_KINDS[unit.kind].of_all else single_work
    work: Work = make(unit, context, watcher, clock)
    watcher.begun(unit, checkpoint is not None)
    go_on(work.trainer, checkpoint, work.budget)
    clock.stop()
    result, predictions = work.measured()
    result["file_bytes"] = work.keep()
    return result, predictions


def write_down(unit: Unit, context: RunContext, result: Result, predictions: Any) -> None:
    """Write what a unit came to into its folder; with the result there it is done."""
    folder = unit.folder(context.run)
    write_json(folder / PREDICTIONS, predictions)
    note_made(unit, context)
    write_json(folder / RESULT, result)
    clean(folder)
