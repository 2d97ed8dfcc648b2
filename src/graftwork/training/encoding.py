"""A task made ready for a model: its features, each made once, and their batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from graftwork.attach import ModelWithHeads
from graftwork.tasks import Kind, Rows, Task

Feature = dict[str, Any]


class Encoded:
    """A task's rows as features.

    Args:
        task: The task.
        processor: A tokenizer, or a processor of images.
        max_length: In tokens, where the task does not say.
    """

    def __init__(self, task: Task, processor: Any, max_length: int | None) -> None:
        self.task, self.processor, self.max_length = task, processor, max_length
        # with the rows, so that no others can come to have their identity
        self._made: dict[tuple[int, bool], tuple[Rows, list[Feature]]] = {}

    def features(self, rows: Rows, *, train: bool = False) -> list[Feature]:
        """What a model is given for some rows of the task; made once."""
        key = (id(rows), train)
        if key not in self._made:
            made = self.task.features(rows, self.processor, max_length=self.max_length, train=train)
            self._made[key] = rows, made
        return self._made[key][1]


def batch_of(model: ModelWithHeads, kind: Kind, features: Sequence[Feature], processor: Any) -> dict[str, Tensor]:
    """Features as one batch, where the model is."""
    batch = kind.collate(features, processor, for_model=model.base)
    return {key: value.to(model.device) for key, value in batch.items()}


def middling(features: Sequence[Feature], lengths: Sequence[int], count: int) -> list[Feature]:
    """Features of middling length, which stand for all where a few have to be measured.

    Args:
        features: All of them.
        lengths: How long each is.
        count: How many are wanted.
    """
    order = sorted(range(len(features)), key=lambda n: lengths[n])
    return [features[n] for n in order[max(0, (len(order) - count) // 2) :][:count]]
