"""A Trainer for several tasks on one model, each with a composition and a head; every task is scored."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback, TrainingArguments

from graftwork.attach import Handle, ModelWithHeads
from graftwork.compose import Composition
from graftwork.tasks import Prediction, Rows
from graftwork.training.encoding import Encoded, Feature
from graftwork.training.outputs import chosen, predictions_of, scored
from graftwork.training.packed_rows import check_packing
from graftwork.training.recipe_trainer import FreshEpochs, RecipeTrainer
from graftwork.training.sampling import TaskMixing, TaskSampler
from graftwork.training.scores import mean_metric

Row = tuple[str, int]


class TaskRoute(NamedTuple):
    """The composition that is active for a task, and the name of its head."""

    composition: Composition
    head: str

    def on(self, adapters: Handle) -> AbstractContextManager[None]:
        """A context with the composition active in a model and the head in use."""
        return adapters.using(self.composition, head=self.head)


class JointTrainer(RecipeTrainer):
    """A Trainer of the attached model on the rows of several tasks, which are given by name.

    The loss of a batch is the mean over its rows, each by its task's head. The best epoch is the one with the best mean of
    the tasks' main metrics, or of ``chosen_by`` (see `TaskTrainer`).

    Raises:
        AttachError: If nothing is attached to the model.
        TrainingError: If a task's rows are packed, and the model would let one see another.
    """

    def __init__(
        self,
        model: ModelWithHeads,
        args: TrainingArguments,
        encoded: Mapping[str, Encoded],
        routes: Mapping[str, TaskRoute],
        batches: JointBatches,
        callbacks: Sequence[TrainerCallback] = (),
        chosen_by: str | None = None,
    ) -> None:
        self.chosen_by = chosen_by
        self.encoded, self.routes, self.batches = dict(encoded), dict(routes), batches
        super().__init__(
            model=model,
            args=args,
            train_dataset=_Rows(encoded),
            eval_dataset=_Rows({}),
            data_collator=self._parts,
            callbacks=[FreshEpochs(args.seed), *callbacks],
        )
        for task, one in self.encoded.items():
            with self.routes[task].on(self.adapters):
                check_packing(self._headed, one)

    def get_train_dataloader(self) -> DataLoader:
        """The batches that are drawn, from the current epoch on."""
        self.batches.epoch = lambda: self.state.epoch or 0.0
        rows: Any = self.train_dataset
        return DataLoader(rows, batch_sampler=self.batches, collate_fn=self._parts)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The sum of the losses of the tasks in a batch, each weighted by its share of the rows."""
        losses = []
        for task, share, batch in inputs["parts"]:
            with self.routes[task].on(self.adapters):
                losses.append(share * model(**batch).loss)
        loss = torch.stack(losses).sum()
        return (loss, {}) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The main metric of every task on its dev rows, and their mean."""
        of_tasks, choices = {}, []
        for task, encoded in self.encoded.items():
            predictions, loss = self._predictions(task, encoded.task.dev)
            of_tasks[f"{metric_key_prefix}_of_{task}"] = scored(encoded.task, predictions, encoded.task.dev)[
                encoded.task.metric
            ]
            if self.chosen_by is not None:
                choices.append(chosen(self.chosen_by, encoded.task, predictions, loss))
        mean, name = statistics.fmean(of_tasks.values()), mean_metric(one.task.metric for one in self.encoded.values())
        # the main metric comes first: a listener takes its name from there
        metrics = {f"{metric_key_prefix}_{name}": mean, **of_tasks, f"{metric_key_prefix}_score": mean}
        if choices:
            metrics[f"{metric_key_prefix}_choice"] = statistics.fmean(choices)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measured(self, task: str, rows: Rows) -> tuple[dict[str, float], list[Prediction]]:
        """A task's metrics on some rows of it, and the prediction of each row.

        Raises:
            TrainingError: If the loss is not a number.
        """
        predictions, _ = self._predictions(task, rows)
        return scored(self.encoded[task].task, predictions, rows), predictions

    def _predictions(self, task: str, rows: Rows) -> tuple[list[Prediction], float | None]:
        encoded = self.encoded[task]
        with self.routes[task].on(self.adapters):
            predictions, loss = predictions_of(self._headed, encoded, rows, self.args.eval_batch_size, self.autocast)
        if loss is not None:
            self.require_finite(torch.tensor(loss), f"the loss on rows of {task}")
        return predictions, loss

    def _parts(self, rows: Sequence[tuple[str, Feature]]) -> dict[str, Any]:
        """A batch as one part a task: its name, its share of the rows, its batch."""
        parts: list[tuple[str, float, dict[str, Tensor]]] = []
        for task in dict.fromkeys(task for task, _ in rows):
            features = [feature for other, feature in rows if other == task]
            encoded = self.encoded[task]
            batch = encoded.task.collate(features, encoded.processor, for_model=self._headed.base)
            parts.append((task, len(features) / len(rows), batch))
        return {"parts": parts}


class JointBatches:
    """A sampler of batches of several tasks that depends on the seed and the step alone: a resumed training draws the same.

    Args:
        sizes: The number of rows of each task.
        batch_size: Rows a batch.
        mixing: How often each task is drawn.
        mixed: Whether the task is drawn for every row; else all rows of a batch are of one task.
        epochs: The number of epochs. An epoch has as many batches as there are in one pass over every task.
        seed: Seed of what is drawn.
    """

    def __init__(
        self, sizes: Mapping[str, int], batch_size: int, *, mixing: TaskMixing, mixed: bool, epochs: int, seed: int
    ) -> None:
        self.batch_size, self.mixed, self.drop_last = batch_size, mixed, False
        self.epoch: Any = lambda: 0.0
        steps = -(-sum(sizes.values()) // batch_size) * batch_size if mixed else None
        size = 1 if mixed else batch_size
        self._sampler = TaskSampler(sizes, size, mixing=mixing, epochs=epochs, steps=steps, seed=seed)

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return self._sampler.steps // self.batch_size if self.mixed else self._sampler.steps

    def __iter__(self) -> Iterator[list[Row]]:
        steps = self._sampler.steps
        self._sampler.seek(int(self.epoch() + 1e-6) * steps)
        batch: list[Row] = []
        for _, drawn in zip(range(steps), self._sampler, strict=False):
            batch += [(drawn.task, row) for row in drawn.rows]
            if not self.mixed or len(batch) == self.batch_size:
                yield batch
                batch = []


class _Rows(Dataset):
    """The features of all tasks' training rows, by task and row number."""

    def __init__(self, encoded: Mapping[str, Encoded]) -> None:
        self.features = {task: one.features(one.task.train, train=True) for task, one in encoded.items()}

    def __len__(self) -> int:
        return sum(map(len, self.features.values()))

    def __getitem__(self, row: Row) -> tuple[str, Feature]:
        task, number = row
        return task, self.features[task][number]
