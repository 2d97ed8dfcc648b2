"""Any number of labels for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch

from graftwork.heads import Classification, HeadConfig
from graftwork.tasks.cells import Cells
from graftwork.tasks.kind.registry import register
from graftwork.tasks.kind.texts import TextKind
from graftwork.tasks.label_names import enough, names_in, resolve
from graftwork.tasks.prediction import Prediction
from graftwork.tasks.rows import Rows
from graftwork.tasks.scoring.labels import LABEL_SET
from graftwork.tasks.spec import TaskSpec


@register
class MultiLabel(TextKind):
    """Any number of labels for one or two texts; a row's label is a list of names, which may be empty."""

    name: ClassVar[str] = "multi_label"
    metrics: ClassVar[tuple[str, ...]] = ("micro_f1", "macro_f1", "accuracy")
    form: ClassVar[str] = LABEL_SET

    @classmethod
    def find_labels(cls, name: str, spec: TaskSpec, train: Rows, told: tuple[str, ...] | None) -> tuple[str, ...]:
        def values() -> Iterator[tuple[Any, Cells, str]]:
            for row, place in train.placed():
                cells = Cells(row, place, spec)
                cells.value("label")
                yield from ((value, cells, "label") for value in _listed(cells) or ())

        return enough(spec.labels or told or names_in(values()), 1, f"task {name!r}")

    def target(self, cells: Cells) -> list[float] | None:
        listed = _listed(cells)
        if listed is None:
            return None
        numbers = {resolve(value, self.labels, cells, "label", self.numbered) for value in listed}
        return [float(n in numbers) for n in range(len(self.labels))]

    def answer(self, cells: Cells) -> list[str] | None:
        target = self.target(cells)
        return None if target is None else [name for name, there in zip(self.labels, target, strict=True) if there]

    def labels_of(self, cells: Cells) -> list[str]:
        return self.answer(cells) or []

    def predict(self, logits: np.ndarray) -> Prediction:
        """The labels that are likelier than not, and the probability of each."""
        chances = torch.from_numpy(logits).double().sigmoid().tolist()
        named = dict(zip(self.labels, chances, strict=True))
        return Prediction([name for name, chance in named.items() if chance > 0.5], named)

    def head(self) -> HeadConfig:
        return Classification(labels=self.labels, multi_label=True, pooling=self.spec.pooling)


def _listed(cells: Cells) -> list[Any] | None:
    """The labels of a row: a list, also one written as JSON; ``None`` where there is nothing."""
    value = cells.get("label")
    if value is None or (isinstance(value, str) and value == ""):
        return None
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = cells.json("label")
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise cells.wrong("label", 'several labels are a list of names; in a table, written as ["one", "two"]')
    return list(value)
