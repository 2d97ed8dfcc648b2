"""The scores of a trial while it is trained, by which it may be stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.experiments.kinds import Unit
from graftwork.experiments.running.folder import read_result
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.sweeping.aim import Aim
from graftwork.experiments.sweeping.study import Study
from graftwork.tasks import Survey

_EPOCHS = 10**6  # steps of a unit that counts: an epoch is one


class PrunedError(BaseException):
    """A trial is stopped. No `Exception`: a worker writes those down as failures of a training."""


class EarlyScores(Watcher):
    """Passes on what happens in the run of a trial, and stops it where its scores are below the median of other trials.

    After each evaluation of a unit that counts, the mean of the best dev scores so far is compared with those of other trials at
    the same epoch of the same unit; units that have none yet count as 0, so that the mean grows to the score of the trial.
    """

    def __init__(self, watcher: Watcher, aim: Aim, study: Study, trial: Any) -> None:
        self.watcher, self.aim, self.study, self.trial = watcher, aim, study, trial
        self.counted: list[str] = []
        self.best: dict[str, float] = {}

    def surveyed(self, surveys: Sequence[Survey]) -> None:
        if self.trial.number == 0:  # the data is the same for all
            self.watcher.surveyed(surveys)

    def planned(self, units: Sequence[Unit], done: Mapping[str, Mapping[str, Any]]) -> None:
        self.counted = [unit.id for unit in units if self.aim.counts(unit)]
        self.best = {id: self.aim.score(done[id]) for id in self.counted if id in done}
        self.watcher.planned(units, done)

    def begun(self, unit: Unit, resumed: bool) -> None:
        self.watcher.begun(unit, resumed)

    def stepped(self, unit: Unit, step: int, steps: int) -> None:
        self.watcher.stepped(unit, step, steps)

    def logged(self, unit: Unit, epoch: float, values: Mapping[str, float]) -> None:
        self.watcher.logged(unit, epoch, values)
        if "eval_score" not in values or unit.id not in self.counted:
            return
        self.best[unit.id] = max(values["eval_score"], self.best.get(unit.id, values["eval_score"]))
        step, before = _EPOCHS * self.counted.index(unit.id) + round(epoch), self.study.reported(self.trial)
        mean = sum(self.best.values()) / len(self.counted)
        if step not in before:  # an interrupted trial goes on: another process has reported the epochs before
            self.trial.report(max([mean, *before.values()]), step)
        if self.trial.should_prune():
            raise PrunedError

    def ended(self, unit: Unit, result: Mapping[str, Any]) -> None:
        if unit.id in self.counted:
            self.best[unit.id] = self.aim.score(result)
        self.watcher.ended(unit, result)

    def ended_elsewhere(self, unit: Unit, run: Path) -> None:
        if unit.id in self.counted and (result := read_result(unit, run)) is not None:
            self.best[unit.id] = self.aim.score(result)
        self.watcher.ended_elsewhere(unit, run)

    def failed(self, unit: Unit, why: str) -> None:
        self.watcher.failed(unit, why)

    def message(self, text: str) -> None:
        self.watcher.message(text)
