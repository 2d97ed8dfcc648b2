"""One training of a unit, from where it was interrupted; the seconds that it took."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from graftwork.checkpoint.folders import replace_file
from graftwork.experiments.running.checkpoints import best_of
from graftwork.training.budget import StageBudget
from graftwork.training.recipe_trainer import RecipeTrainer, run_out, scores_of


def go_on(trainer: RecipeTrainer, checkpoint: Path | None, budget: StageBudget) -> None:
    """Train from a checkpoint on, or from the start, to the best epoch's weights."""
    if checkpoint is not None:
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        scores = scores_of(state)
        # interrupted between the last epoch and the result
        if run_out(scores, budget.patience) or len(scores) >= budget.epochs:
            state.best_model_checkpoint = str(best_of(checkpoint.parent, state))
            trainer.state = state
            trainer._load_best_model()
            return
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)


class Clock(TrainerCallback):
    """The seconds that a unit was trained, over all its interruptions; those since the last checkpoint are lost with it."""

    def __init__(self, file: Path) -> None:
        self.file, self.began = file, time.perf_counter()
        try:
            self.before = max(0.0, min(float(file.read_text()), 1e9))
        except (OSError, ValueError):  # there is none, or it is damaged
            self.before = 0.0
        self.seconds = self.before

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write it down."""
        self.keep()

    def keep(self) -> None:
        """Write down the seconds so far."""
        self.stop()
        replace_file(self.file, str(self.seconds).encode())

    def stop(self) -> None:
        """Take the time."""
        self.seconds = self.before + time.perf_counter() - self.began
