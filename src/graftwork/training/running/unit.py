"""One unit of a run: trained, resumed where it was interrupted, measured, and written down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graftwork.checkpoint.folders import replace_file
from graftwork.errors import TrainingError
from graftwork.training.planning.kinds import UNIT_KINDS
from graftwork.training.planning.plan import Unit
from graftwork.training.running.checkpoints import last_finished
from graftwork.training.running.folder import PREDICTIONS, RESULT
from graftwork.training.running.going import Clock, go_on
from graftwork.training.running.sequence import go_through
from graftwork.training.running.watching import Watcher
from graftwork.training.running.work import Work, joint_work, single_work
from graftwork.training.running.workshop import Workshop

_CLOCK = "seconds"
Result = dict[str, Any]


def run_unit(unit: Unit, shop: Workshop, watcher: Watcher) -> Result:
    """Train a unit, or go on with it, and write its result.

    Raises:
        TrainingError: If the loss is not a number, or the disk is full.
    """
    folder = unit.folder(shop.run)
    clock = Clock(folder / _CLOCK)
    with nothing_lost(unit, folder):
        if UNIT_KINDS[unit.kind].over == "sequence":
            result, predictions = go_through(unit, shop, watcher, clock)
        else:
            result, predictions = _trained(unit, shop, watcher, clock)
        result["timings"]["train_seconds"] = round(clock.seconds, 1)
        write_down(folder, result, predictions)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / _CLOCK).unlink(missing_ok=True)
    watcher.ended(unit, result)
    return result


def _trained(unit: Unit, shop: Workshop, watcher: Watcher, clock: Clock) -> tuple[Result, Any]:
    checkpoint = last_finished(unit.folder(shop.run) / "checkpoints")
    make = joint_work if UNIT_KINDS[unit.kind].of_all else single_work
    work: Work = make(unit, shop, watcher, clock)
    watcher.begun(unit, checkpoint is not None)
    go_on(work.trainer, checkpoint, work.budget)
    clock.stop()
    result, predictions = work.measured()
    result["file_bytes"] = work.keep()
    return result, predictions


def write_down(folder: Path, result: Result, predictions: Any) -> None:
    """Write what a unit came to into its folder; with the result there it is done."""
    replace_file(folder / PREDICTIONS, (json.dumps(predictions) + "\n").encode())
    replace_file(folder / RESULT, (json.dumps(result, indent=1) + "\n").encode())


@contextmanager
def nothing_lost(unit: Unit, folder: Path) -> Iterator[None]:
    """Say of a disk that is full, or a folder that cannot be written, what can be done about it.

    Raises:
        TrainingError: In the place of the system's own error.
    """
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{unit.id}: {folder} cannot be written ({error.strerror or error}); what was finished is kept: make room, and "
            "start the same command again"
        ) from error
