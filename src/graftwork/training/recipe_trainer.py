"""What the Trainers of a recipe share: they resume exactly, and stop at a loss that is not a number."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from graftwork.attach import ModelWithHeads
from graftwork.errors import GraftworkError, TrainingError
from graftwork.training.trainer import AdapterTrainer


class RecipeTrainer(AdapterTrainer):
    """A Trainer that saves checkpoints at the ends of epochs; it needs `FreshEpochs` among its callbacks."""

    def autocast(self) -> Any:
        """The context of the precision that the model is trained in, for what accelerate does not wrap: generating."""
        return self.accelerator.autocast()

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Make one step; refuse a loss that is not a number, which would destroy the weights."""
        loss = super().training_step(*args, **kwargs)
        if self.state.global_step % max(int(self.args.logging_steps), 1) == 0 or loss.device.type == "cpu":
            self.require_finite(loss, "the loss")
        return loss

    def require_finite(self, loss: Tensor, what: str) -> None:
        """Raise a `TrainingError` if a loss is not finite; ``what`` says which loss it is."""
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"{what} is {float(loss)} at step {self.state.global_step + 1} of {self.state.max_steps} (epoch "
                f"{self.state.epoch or 0:.2f}); the last good checkpoint is kept in {self.args.output_dir}. Try a lower "
                "learning rate, bf16 = false, or look for broken rows"
            )

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint; a failure to write is an OSError whatever torch raises."""
        try:
            super()._save_checkpoint(*args, **kwargs)
        except GraftworkError:
            raise
        except (RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise OSError(errno.EIO, f"the checkpoint could not be written: {reason}") from error

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Do nothing: checkpoints are at the ends of epochs, and `FreshEpochs` seeds every epoch."""

    @property
    def _headed(self) -> ModelWithHeads:
        model: ModelWithHeads = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)
        return model


class FreshEpochs(TrainerCallback):
    """A callback that seeds all random numbers by the epoch's number when it begins, so that a resumed run draws the same."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Seed."""
        set_seed((self.seed * 100_003 + int((state.epoch or 0) + 1e-6) + 1) % 2**31)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log the mean loss since the last log: a resumed run would not have those steps."""
        control.should_log = True


class Patience(TrainerCallback):
    """A callback that stops when the best score is ``patience`` evaluations old.

    It reads the scores from the Trainer's history, so that resuming changes nothing.
    """

    def __init__(self, patience: int | None) -> None:
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop if there was no better score for too long."""
        if run_out(choices_of(state), self.patience):
            control.should_training_stop = True


def scores_of(state: TrainerState) -> list[float]:
    """The score of every epoch so far."""
    return [entry["eval_score"] for entry in state.log_history if "eval_score" in entry]


def choices_of(state: TrainerState) -> list[float]:
    """What the best epoch is chosen by, of every epoch so far: the score, or where a budget says another metric, that."""
    return [entry.get("eval_choice", entry["eval_score"]) for entry in state.log_history if "eval_score" in entry]


def learnt(state: TrainerState) -> dict[str, Any]:
    """The facts of a training that has ended: its epochs and steps, the best epoch, and the curves of loss and score."""
    curve, choices = scores_of(state), choices_of(state)
    return {
        "epochs": len(curve),
        "best_epoch": choices.index(max(choices)) + 1,
        "steps": state.global_step,
        "curves": {
            "loss": [[entry["step"], entry["loss"]] for entry in state.log_history if "loss" in entry],
            "score": [[n + 1, value] for n, value in enumerate(curve)],
        },
    }


def run_out(scores: Sequence[float], patience: int | None) -> bool:
    """Whether the best score is ``patience`` epochs old or more."""
    return patience is not None and bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= patience
