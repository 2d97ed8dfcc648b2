"""One of several labels for a text or a pair of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from graftwork.errors import TaskError
from graftwork.heads import Classification, HeadConfig
from graftwork.options import nearest
from graftwork.tasks.batches import softmax
from graftwork.tasks.cells import Cells
from graftwork.tasks.decisions import Decision, fit_temperature, fit_threshold, tempered
from graftwork.tasks.kind.contract import Kind, register
from graftwork.tasks.kind.texts import TextKind
from graftwork.tasks.label_names import enough, missing, names_in, number_of, resolve
from graftwork.tasks.rows import Prediction, Rows
from graftwork.tasks.scoring.labels import LABEL
from graftwork.tasks.spec import TaskSpec


class OneLabel(Kind):
    """What the kinds share whose rows have one label each."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    form: ClassVar[str] = LABEL
    answers: ClassVar[tuple[str, ...]] = ("label",)
    options: ClassVar[frozenset[str]] = frozenset(
        {"labels", "positive", "class_weights", "threshold", "calibrate", "pooling"}
    )

    @classmethod
    def find_labels(
        cls, name: str, spec: TaskSpec, train: Rows, data_labels: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        ordered = spec.labels or data_labels
        names = ordered or names_in(train, spec, "label", lambda cells: [cells.value("label")])
        f1 = "f1" in (spec.metrics or cls.metrics) or spec.threshold is not None
        check_positive(f"task {name!r}", spec, f1, enough(names, 2, f"task {name!r}"), bool(ordered))
        if spec.threshold is not None and len(names) != 2:
            raise TaskError(
                f"task {name!r}: threshold is that of one of two labels, and here are {len(names)}; leave it out, and "
                "the likeliest is predicted"
            )
        return names

    def target(self, cells: Cells) -> int | None:
        """The number of a row's label, ``None`` where the row has none."""
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

    @property
    def positive(self) -> str | None:
        asked = "f1" in self.metric_names() or self.spec.threshold is not None
        if not asked or len(self.labels) != 2:
            return None
        return self.spec.positive or self.labels[1]

    @property
    def scored_labels(self) -> tuple[str, ...]:
        return tuple(sorted(self.labels, key=lambda label: label == self.positive)) if self.positive else self.labels

    def class_weights(self, rows: Rows) -> tuple[float, ...] | None:
        given = self.spec.class_weights
        if given is None:
            return None
        where = f"task {self.task!r}: class_weights"
        if isinstance(given, tuple):
            if len(given) != len(self.labels) or not self.numbered:
                raise TaskError(
                    f"{where} has {len(given)} weights for the labels {', '.join(self.labels)}; give a table {{label = weight}}, "
                    "or one for each in the order that labels = [...] says"
                )
            return given
        if given == "balanced":
            counts = Counter(self.gold(rows))
            return tuple(len(rows) / (len(counts) * counts[label]) if counts[label] else 1.0 for label in self.labels)
        for label in given:
            if label not in self.labels:
                raise TaskError(f"{where} names {label!r}, which is none of the labels; {nearest(label, self.labels)}")
        return tuple(float(given.get(label, 1.0)) for label in self.labels)

    def head(self) -> HeadConfig:
        return Classification(labels=self.labels, pooling=self.spec.pooling)

    def predict(self, logits: np.ndarray) -> Prediction:
        chances = softmax(logits)
        named = dict(zip(self.labels, chances.tolist(), strict=True))
        return self.decided(Prediction(self.labels[int(chances.argmax())], named))

    def decided(self, prediction: Prediction) -> Prediction:
        return self.decision.of_one(prediction, self.positive)

    def fit_decision(self, predictions: Sequence[Prediction], rows: Rows) -> Decision | None:
        if not (self.spec.calibrate or self.spec.threshold == "dev"):
            return None
        chances = np.array([[*(one.probabilities or {}).values()] for one in predictions])
        right = np.array([self.labels.index(label) for label in self.gold(rows)])
        temperature = fit_temperature(chances, right) if self.spec.calibrate else 1.0
        if self.spec.threshold != "dev":
            return Decision(temperature, self.decision.threshold)
        number = self.labels.index(str(self.positive))
        return Decision(temperature, fit_threshold(tempered(chances, temperature)[:, number], right == number))


def check_positive(where: str, spec: TaskSpec, f1: bool, labels: tuple[str, ...], ordered: bool) -> None:
    """Refuse a positive label that does not fit, and two labels without one where F1 is of one and their order is unknown."""
    given = spec.positive
    either = " or ".join(f'positive = "{label}"' for label in labels[:2])
    if given is not None and (not f1 or len(labels) != 2):
        raise TaskError(
            f"{where}: positive is {given!r}, the one of two labels that the metric f1 is of, or a threshold, and here are "
            f"{len(labels)} labels and {'f1' if f1 else 'no f1 in metrics'}; leave it out"
        )
    if given is not None and given not in labels:
        raise TaskError(f"{where}: positive is {given!r}, which is no label; give {either}")
    ordered = ordered or labels == ("false", "true") or number_of(labels[0]) is not None
    if f1 and len(labels) == 2 and given is None and not ordered:
        raise TaskError(
            f'{where}: f1 is that of one of two labels, and nobody has said of which; give {either}, or metrics = ["macro_f1"]'
            + " and no threshold" * (spec.threshold is not None)
        )


@register
class TextClassification(OneLabel, TextKind):
    """One of several labels for one or two texts."""

    name: ClassVar[str] = "classification"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "matthews")
    options: ClassVar[frozenset[str]] = OneLabel.options | TextKind.options
