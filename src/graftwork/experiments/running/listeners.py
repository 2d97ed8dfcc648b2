"""Listeners of a run, which are called with what happens in it; `graftwork.report` shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from graftwork.experiments.kinds import Unit
from graftwork.tasks import Survey


class Watcher:
    """A listener of a run: override what you want to hear of. This one does nothing.

    Every method is called in the thread that trains and should return at once.
    """

    def surveyed(self, surveys: Sequence[Survey]) -> None:
        """The data of all tasks was looked over; nothing is trained yet."""

    def planned(self, units: Sequence[Unit], done: Mapping[str, Mapping[str, Any]]) -> None:
        """The run begins: all its units, and the results of those that are done already (by their ids)."""

    def begun(self, unit: Unit, resumed: bool) -> None:
        """A unit begins, or goes on from a checkpoint."""

    def stepped(self, unit: Unit, step: int, steps: int) -> None:
        """A step of the optimiser was made, of at most ``steps``."""

    def logged(self, unit: Unit, epoch: float, values: Mapping[str, float]) -> None:
        """A loss (``loss``) or a score (``eval_score`` and each metric) is known."""

    def ended(self, unit: Unit, result: Mapping[str, Any]) -> None:
        """A unit is done: what its ``result.json`` says."""

    def ended_elsewhere(self, unit: Unit, run: Path) -> None:
        """Another worker of the same run has done a unit; its result is in the run's folder."""

    def failed(self, unit: Unit, why: str) -> None:
        """A unit failed, or is left out because one did that it depends on."""

    def message(self, text: str) -> None:
        """A message for the user."""


class TrainerListener(TrainerCallback):
    """Passes the steps, losses and scores of a Trainer to a listener of the run."""

    def __init__(self, watcher: Watcher, unit: Unit) -> None:
        self.watcher, self.unit = watcher, unit

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Pass the number of the step."""
        self.watcher.stepped(self.unit, state.global_step, state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Pass losses and scores."""
        shown = {k: v for k, v in (logs or {}).items() if k in ("loss", "learning_rate") or k.startswith("eval_")}
        values = {k: v for k, v in shown.items() if isinstance(v, (int, float))}
        if values:
            self.watcher.logged(self.unit, state.epoch or 0.0, values)
