"""A Trainer for one task: it scores by the task's own metrics, and is exact when it is interrupted and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from graftwork.attach import Headed
from graftwork.errors import TrainingError
from graftwork.tasks import Rows
from graftwork.training.encoding import Encoded
from graftwork.training.outputs import measure
from graftwork.training.trainer import AdapterTrainer

_CHUNK = 50  # batches whose rows are sorted by length together


class TaskTrainer(AdapterTrainer):
    """Trains what learns on a task's rows, and scores on its dev rows at every evaluation.

    Args:
        model: The attached model.
        args: Arguments of the Trainer.
        encoded: The task and its features.
        callbacks: More of them.

    Raises:
        AttachError: If nothing is attached to the model.
    """

    def __init__(
        self,
        model: Headed,
        args: TrainingArguments,
        encoded: Encoded,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self._encoded = encoded
        self.task, self.processor, self.features = encoded.task, encoded.processor, encoded.features
        super().__init__(
            model=model,
            args=args,
            train_dataset=self.features(self.task.train, train=True),
            eval_dataset=self.features(self.task.dev),
            data_collator=self._batch,
            callbacks=[FreshEpochs(args.seed), *callbacks],
        )

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score on the dev rows, as `Task.score` does, and say the loss.

        Raises:
            TrainingError: If the loss or the score is not a number.
        """
        scores, loss = self.measure(self.task.dev)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
        metrics[f"{metric_key_prefix}_score"] = scores[self.task.metric]
        if loss is not None:
            self.require_finite(torch.tensor(loss), "the loss on the dev rows")
            metrics[f"{metric_key_prefix}_loss"] = loss
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure(self, rows: Rows) -> tuple[dict[str, float], float | None]:
        """The task's metrics on some rows of it, and the mean loss."""
        return measure(self._headed, self._encoded, rows, self.args.eval_batch_size, self.autocast)

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

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing: checkpoints stand at the ends of epochs, and `FreshEpochs` seeds every epoch by its number."""

    @property
    def _headed(self) -> Headed:
        model: Any = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True)
        return model  # type: ignore[no-any-return]

    def _batch(self, features: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        model: Any = self.model
        return self.task.collate(features, self.processor, for_model=model.base)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        features = self.features(self.task.train, train=True)
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        # asked for anew: a resumed training puts another state in its place
        return ByLength(self.task.lengths(features), size, self.args.seed, lambda: self.state.epoch or 0.0)


class ByLength(Sampler[int]):
    """Rows in a random order in which neighbours have a like length; a function of the seed and the epoch alone."""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, epoch: Callable[[], float]) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        epoch = int(self.epoch() + 1e-6)
        generator = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        size = self.batch * _CHUNK
        chunks = [sorted(order[n : n + size], key=lambda i: -self.lengths[i]) for n in range(0, len(order), size)]
        batches = [chunk[n : n + self.batch] for chunk in chunks for n in range(0, len(chunk), self.batch)]
        # the last batch may be a smaller one, and has to stay the last: a resumed run counts whole batches
        whole = [b for b in batches if len(b) == self.batch]
        rest = [i for b in batches if len(b) < self.batch for i in b]
        shuffled = torch.randperm(len(whole), generator=generator).tolist()
        yield from (i for n in shuffled for i in whole[n])
        yield from rest


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


def run_out(scores: Sequence[float], patience: int | None) -> bool:
    """Whether the best score is so many epochs old."""
    return patience is not None and bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= patience
