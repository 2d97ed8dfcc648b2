"""Any number of labels for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from graftwork.heads import Classification, HeadConfig
from graftwork.tasks.cells import Cells
from graftwork.tasks.decisions import Decision, each_tempered, fit_temperature, fit_threshold
from graftwork.tasks.kind.contract import register
from graftwork.tasks.kind.texts import TextKind
from graftwork.tasks.label_names import enough, names_in, resolve
from graftwork.tasks.rows import Prediction, Rows
from graftwork.tasks.scoring.labels import LABEL_SET
from graftwork.tasks.spec import TaskSpec


@register
class MultiLabel(TextKind):
    """Any number of labels for one or two texts; a row's label is a list of names, which may be empty."""

    name: ClassVar[str] = "multi_label"
    metrics: ClassVar[tuple[str, ...]] = ("micro_f1", "macro_f1", "accuracy")
    form: ClassVar[str] = LABEL_SET
    options: ClassVar[frozenset[str]] = TextKind.options | {"threshold", "calibrate"}

    @classmethod
    def find_labels(
        cls, name: str, spec: TaskSpec, train: Rows, data_labels: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        def values(cells: Cells) -> Iterable[Any]:
            cells.value("label")  # a train row must have one
            return _listed(cells) or ()

        return enough(spec.labels or data_labels or names_in(train, spec, "label", values), 1, f"task {name!r}")

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
        chances = torch.from_numpy(logits).double().sigmoid().tolist()
        named = dict(zip(self.labels, chances, strict=True))
        return self.decided(Prediction([name for name, chance in named.items() if chance > 0.5], named))

    def decided(self, prediction: Prediction) -> Prediction:
        return self.decision.of_several(prediction)

    def fit_decision(self, predictions: Sequence[Prediction], rows: Rows) -> Decision | None:
        if not (self.spec.calibrate or self.spec.threshold == "dev"):
            return None
        chances = np.array([[*(one.probabilities or {}).values()] for one in predictions])
        right = np.array([[float(name in labels) for name in self.labels] for labels in self.gold(rows)])
        temperature = fit_temperature(chances, right, several=True) if self.spec.calibrate else 1.0
        if self.spec.threshold != "dev":
            return Decision(temperature, self.decision.threshold)
        return Decision(temperature, fit_threshold(each_tempered(chances, temperature), right))

    def head(self) -> HeadConfig:
        return Classification(labels=self.labels, multi_label=True, pooling=self.spec.pooling)


def _listed(cells: Cells) -> list[Any] | None:
    """The labels of a row, ``None`` where it has none."""
    value = cells.get("label")
    if value is None or (isinstance(value, str) and value == ""):
        return None
    listed = cells.listed("label")
    if not isinstance(listed, list):
        raise cells.wrong("label", 'several labels are a list of names; in a table, written as ["one", "two"]')
    return listed
