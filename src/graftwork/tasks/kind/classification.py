"""One of several labels for a text or a pair of texts."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from graftwork.heads import Classification, HeadConfig
from graftwork.tasks.batches import softmax
from graftwork.tasks.cells import Cells
from graftwork.tasks.kind.registry import register
from graftwork.tasks.kind.texts import TextKind
from graftwork.tasks.label_names import enough, missing, names_in, resolve
from graftwork.tasks.prediction import Prediction
from graftwork.tasks.rows import Rows
from graftwork.tasks.scoring.labels import LABEL
from graftwork.tasks.spec import TaskSpec


class OneLabel:
    """What kinds share whose rows have one label each."""

    spec: TaskSpec
    labels: tuple[str, ...]
    numbered: bool

    @classmethod
    def find_labels(cls, name: str, spec: TaskSpec, train: Rows, told: tuple[str, ...] | None) -> tuple[str, ...]:
        cells = (Cells(row, place, spec) for row, place in train.placed())
        names = spec.labels or told or names_in((cell.value("label"), cell, "label") for cell in cells)
        return enough(names, 2, f"task {name!r}")

    def target(self, cells: Cells) -> int | None:
        value = cells.get("label")
        if missing(value) and str(value) not in self.labels:
            return None
        return resolve(value, self.labels, cells, "label", self.numbered)

    def answer(self, cells: Cells) -> str | None:
        target = self.target(cells)
        return None if target is None else self.labels[target]

    def labels_of(self, cells: Cells) -> tuple[str, ...]:
        answer = self.answer(cells)
        return () if answer is None else (answer,)

    def predict(self, logits: np.ndarray) -> Prediction:
        """The likeliest label, and the probability of each."""
        chances = softmax(logits)
        named = dict(zip(self.labels, chances.tolist(), strict=True))
        return Prediction(self.labels[int(chances.argmax())], named)


@register
class TextClassification(OneLabel, TextKind):
    """One of several labels for one or two texts."""

    name: ClassVar[str] = "classification"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "matthews")
    form: ClassVar[str] = LABEL

    def head(self) -> HeadConfig:
        return Classification(labels=self.labels, pooling=self.spec.pooling)
