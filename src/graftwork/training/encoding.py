"""A task's features, which are made once, and batches of them on the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from graftwork.attach import ModelWithHeads
from graftwork.tasks import Kind, Rows, Task

Feature = dict[str, Any]


class Encoded:
    """A task with its features, made by a tokenizer or a processor of images; ``max_length`` is in tokens."""

    def __init__(self, task: Task, processor: Any, max_length: int | None) -> None:
        self.task, self.processor, self.max_length = task, processor, max_length
        # by the rows' id, and with the rows, so that no others can get that id
        self._made: dict[tuple[int, bool], tuple[Rows, list[Feature]]] = {}

    def features(self, rows: Rows, *, train: bool = False) -> list[Feature]:
        """The features of some rows of the task."""
        key = (id(rows), train)
        if key not in self._made:
            made = self.task.features(rows, self.processor, max_length=self.max_length, train=train)
            self._made[key] = rows, made
        return self._made[key][1]


def batch_of(model: ModelWithHeads, kind: Kind, features: Sequence[Feature], processor: Any) -> dict[str, Tensor]:
    """Features as one batch, on the model's device."""
    batch = kind.collate(features, processor, for_model=model.base)
    return {key: value.to(model.device) for key, value in batch.items()}


def middling(features: Sequence[Feature], lengths: Sequence[int], count: int) -> list[Feature]:
    """The ``count`` features whose lengths are in the middle: a sample to measure."""
    order = sorted(range(len(features)), key=lambda n: lengths[n])
    return [features[n] for n in order[max(0, (len(order) - count) // 2) :][:count]]
