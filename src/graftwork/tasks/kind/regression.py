"""A number for a text or a pair of texts."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from graftwork.heads import HeadConfig, Regression
from graftwork.tasks.cells import Cells
from graftwork.tasks.kind.contract import register
from graftwork.tasks.kind.texts import TextKind
from graftwork.tasks.rows import Prediction
from graftwork.tasks.scoring.numbers import NUMBER


@register
class TextRegression(TextKind):
    """A number for one or two texts."""

    name: ClassVar[str] = "regression"
    metrics: ClassVar[tuple[str, ...]] = ("pearson", "spearman")
    form: ClassVar[str] = NUMBER
    options: ClassVar[frozenset[str]] = TextKind.options - {"labels"}

    def answer(self, cells: Cells) -> float | None:
        value = cells.get("label")
        return None if value is None or value == "" else cells.number("label")

    def target(self, cells: Cells) -> float | None:
        return self.answer(cells)

    def predict(self, logits: np.ndarray) -> Prediction:
        return Prediction(float(logits[0]))

    def head(self) -> HeadConfig:
        return Regression(pooling=self.spec.pooling)
