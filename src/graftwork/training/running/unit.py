"""One unit of a run: trained, resumed where it was interrupted, measured, and written down."""

from __future__ import annotations

from typing import Any

from graftwork.training.planning.kinds import UNIT_KINDS
from graftwork.training.planning.plan import Unit
from graftwork.training.running.checkpoints import last_finished
from graftwork.training.running.folder import CHECKPOINTS, CLOCK, PREDICTIONS, RESULT, write_json
from graftwork.training.running.going import Clock, go_on
from graftwork.training.running.made_with import clean, note_begun, note_made
from graftwork.training.running.sequence import go_through
from graftwork.training.running.watching import Watcher
from graftwork.training.running.work import Work, joint_work, single_work
from graftwork.training.running.workshop import Workshop

Result = dict[str, Any]


def run_unit(unit: Unit, shop: Workshop, watcher: Watcher) -> Result:
    """Train a unit, or go on with it, and write its result.

    Raises:
        TrainingError: If the loss is not a number.
    """
    clock = Clock(unit.folder(shop.run) / CLOCK)
    note_begun(unit, shop)
    if UNIT_KINDS[unit.kind].over == "sequence":
        result, predictions = go_through(unit, shop, watcher, clock)
    else:
        result, predictions = _trained(unit, shop, watcher, clock)
    result["timings"]["train_seconds"] = round(clock.seconds, 1)
    write_down(unit, shop, result, predictions)
    watcher.ended(unit, result)
    return result


def _trained(unit: Unit, shop: Workshop, watcher: Watcher, clock: Clock) -> tuple[Result, Any]:
    checkpoint = last_finished(unit.folder(shop.run) / CHECKPOINTS)
    make = joint_work if UNIT_KINDS[unit.kind].of_all else single_work
    work: Work = make(unit, shop, watcher, clock)
    watcher.begun(unit, checkpoint is not None)
    go_on(work.trainer, checkpoint, work.budget)
    clock.stop()
    result, predictions = work.measured()
    result["file_bytes"] = work.keep()
    return result, predictions


def write_down(unit: Unit, shop: Workshop, result: Result, predictions: Any) -> None:
    """Write what a unit came to into its folder; with the result there it is done."""
    folder = unit.folder(shop.run)
    write_json(folder / PREDICTIONS, predictions)
    note_made(unit, shop)
    write_json(folder / RESULT, result)
    clean(folder)
