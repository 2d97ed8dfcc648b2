"""What the Trainers of a recipe have in common: exact when interrupted and resumed, stopped where a loss is no number."""

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
    """A Trainer whose checkpoints stand at the ends of epochs; `FreshEpochs` is to be among its callbacks."""

    def autocast(self) -> Any:
        """The precision that the model is trained in."""
        return self.compute_loss_context_manager()

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One step, refused where the loss is not a number: what was learnt so far would be lost with the next one."""
        loss = super().training_step(*args, **kwargs)
        if self.state.global_step % max(int(self.args.logging_steps), 1) == 0 or loss.device.type == "cpu":
            self.require_finite(loss, "the loss")
        return loss

    def require_finite(self, loss: Tensor, what: str) -> None:
        """Stop a training that has gone astray.

        Raises:
            TrainingError: If the value is not finite.
        """
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"{what} is {float(loss)} at step {self.state.global_step + 1} of {self.state.max_steps} (epoch "
                f"{self.state.epoch or 0:.2f}); the last good checkpoint is kept in {self.args.output_dir}. Try a lower "
                "learning rate, bf16 = false, or look for broken rows"
            )

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint; torch says of a full disk only that it could not write."""
        try:
            super()._save_checkpoint(*args, **kwargs)
        except GraftworkError:
            raise
        except (RuntimeError, SafetensorError) as error:
            said = str(error).strip().splitlines()[0]
            raise OSError(errno.EIO, f"the checkpoint could not be written: {said}") from error

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing: checkpoints stand at the ends of epochs, and `FreshEpochs` seeds every epoch by its number."""

    @property
    def _headed(self) -> ModelWithHeads:
        model: Any = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)
        return model  # type: ignore[no-any-return]


class FreshEpochs(TrainerCallback):
    """Seeds everything random at the start of an epoch by its number: a run resumed there goes on as it would have."""

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
        """Say the loss of the steps since it was said last: a resumed run could not count them."""
        control.should_log = True


class Patience(TrainerCallback):
    """Stops when the best score is some evaluations old; reads it all off the history, so that resuming changes nothing."""

    def __init__(self, patience: int | None) -> None:
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look at the scores so far."""
        if run_out(scores_of(state), self.patience):
            control.should_training_stop = True


def scores_of(state: TrainerState) -> list[float]:
    """The score of every epoch so far."""
    return [entry["eval_score"] for entry in state.log_history if "eval_score" in entry]


def learnt(state: TrainerState) -> dict[str, Any]:
    """What a training that has ended says of itself: its epochs and steps, the best epoch, and the curves of loss and score."""
    curve = scores_of(state)
    return {
        "epochs": len(curve),
        "best_epoch": curve.index(max(curve)) + 1,
        "steps": state.global_step,
        "curves": {
            "loss": [[entry["step"], entry["loss"]] for entry in state.log_history if "loss" in entry],
            "score": [[n + 1, value] for n, value in enumerate(curve)],
        },
    }


def run_out(scores: Sequence[float], patience: int | None) -> bool:
    """Whether the best score is so many epochs old."""
    return patience is not None and bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= patience
