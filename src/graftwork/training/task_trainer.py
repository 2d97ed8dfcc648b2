"""A Trainer for one task: it scores by the task's own metrics, and resumes exactly after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainingArguments

from graftwork.attach import ModelWithHeads
from graftwork.tasks import Prediction, Rows
from graftwork.training.encoding import Encoded
from graftwork.training.outputs import chosen, predictions_of, scored
from graftwork.training.packed_rows import check_packing
from graftwork.training.recipe_trainer import FreshEpochs, RecipeTrainer

_CHUNK = 50  # batches whose rows are sorted by length together


class TaskTrainer(RecipeTrainer):
    """A Trainer of the attached model on a task's rows; every evaluation scores its dev rows.

    The best epoch is the one with the best main metric of the task, or the best ``chosen_by``: another metric of its kind, or
    ``"loss"``; then ``metric_for_best_model`` is ``"choice"``.

    Raises:
        AttachError: If nothing is attached to the model.
        TrainingError: If the task's rows are packed, and the model would let one see another.
    """

    def __init__(
        self,
        model: ModelWithHeads,
        args: TrainingArguments,
        encoded: Encoded,
        callbacks: Sequence[TrainerCallback] = (),
        chosen_by: str | None = None,
    ) -> None:
        self._encoded, self.chosen_by = encoded, chosen_by
        self.task, self.processor, self.features = encoded.task, encoded.processor, encoded.features
        super().__init__(
            model=model,
            args=args,
            train_dataset=self.features(self.task.train, train=True),
            eval_dataset=self.features(self.task.dev),
            data_collator=self._batch,
            callbacks=[FreshEpochs(args.seed), *callbacks],
        )
        check_packing(self._headed, encoded)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Take the batches of a step, and note the sum of their rows' weights."""
        batches, items = super().get_batch_samples(*args, **kwargs)
        self._weight_of_step = sum(self._weight_of(batch) for batch in batches)
        return batches, items

    def part_of_step(self, inputs: dict[str, Any]) -> float:
        """The part of a step's weights that a micro-batch has, as Trainer divides the losses of a step by their number."""
        if self.task.class_weights is None or self.args.gradient_accumulation_steps == 1:
            return 1.0
        steps = int(self.current_gradient_accumulation_steps)
        return self._weight_of(inputs) / self._weight_of_step * steps

    def _weight_of(self, batch: dict[str, Any]) -> float:
        weights = self.task.class_weights
        return 0.0 if weights is None else sum(weights[label] for label in batch["labels"].tolist())

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The scores on the dev rows, as `Task.score` gives them, and the loss.

        Raises:
            TrainingError: If the loss or the score is not a number.
        """
        predictions, loss = self._predictions(self.task.dev)
        scores = scored(self.task, predictions, self.task.dev)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
        metrics[f"{metric_key_prefix}_score"] = scores[self.task.metric]
        if self.chosen_by is not None:
            metrics[f"{metric_key_prefix}_choice"] = chosen(self.chosen_by, self.task, predictions, loss)
        if loss is not None:
            self.require_finite(torch.tensor(loss), "the loss on the dev rows")
            metrics[f"{metric_key_prefix}_loss"] = loss
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure(self, rows: Rows) -> tuple[dict[str, float], float | None]:
        """The task's metrics on some rows of it, and the mean loss."""
        predictions, loss = self._predictions(rows)
        return scored(self.task, predictions, rows), loss

    def measured(self, rows: Rows) -> tuple[dict[str, float], list[Prediction]]:
        """The task's metrics on some rows of it, and the prediction of each row."""
        predictions, _ = self._predictions(rows)
        return scored(self.task, predictions, rows), predictions

    def _predictions(self, rows: Rows) -> tuple[list[Prediction], float | None]:
        return predictions_of(self._headed, self._encoded, rows, self.args.eval_batch_size, self.autocast)

    def _batch(self, features: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        model: Any = self.model
        return self.task.collate(features, self.processor, for_model=model.base)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        features = self.features(self.task.train, train=True)
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        # a function, because a resumed training replaces the state
        return ByLength(self.task.lengths(features), size, self.args.seed, lambda: self.state.epoch or 0.0)


class ByLength(Sampler[int]):
    """A sampler of rows in a random order in which the rows of a batch have similar lengths.

    The order depends on the seed and the epoch alone.
    """

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
        # a smaller last batch stays the last one: a resumed run counts whole batches
        smaller = batches.pop() if len(order) % self.batch else []
        for n in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[n]
        yield from smaller
