"""Precision, recall and F1 of each label, and which labels are taken for which: scikit-learn's counts, on names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from graftwork.options import needed

_SKLEARN = "sklearn.metrics"


@dataclasses.dataclass(frozen=True)
class LabelScore:
    """How well one label is predicted.

    Attributes:
        label: The label.
        precision: The share of the rows predicted so that are so; 0 where none is predicted so.
        recall: The share of the rows that are so that are predicted so; 0 where none is so.
        f1: Their harmonic mean.
        count: The rows that are so.
        predicted: The rows that are predicted so.
    """

    label: str
    precision: float
    recall: float
    f1: float
    count: int
    predicted: int


def by_label(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> list[LabelScore]:
    """The scores of each label, in the labels' order.

    Args:
        predicted: For each row a label, or a list of labels.
        gold: The right ones, likewise.
        labels: All labels.

    Example:
        >>> [one.recall for one in by_label(["a", "b", "b"], ["a", "a", "b"], ["a", "b"])]
        [0.5, 1.0]
    """
    sides: list[Any] = [gold, predicted]
    counts = [[sum(name in _listed(one) for one in side) for name in labels] for side in sides]
    names: dict[str, Any] = {"labels": list(labels)}
    if gold and not isinstance(gold[0], str):
        sides = [[[int(name in row) for name in labels] for row in side] for side in sides]
        names = {"labels": list(range(len(labels)))}
    scores = needed(_SKLEARN, "the scores of each label").precision_recall_fscore_support(
        *sides, **names, average=None, zero_division=0.0
    )
    precision, recall, f1 = ([float(value) for value in score] for score in scores[:3])
    return [
        LabelScore(label, precision[n], recall[n], f1[n], counts[0][n], counts[1][n]) for n, label in enumerate(labels)
    ]


def confusion(predicted: Sequence[str], gold: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """How many rows of each right label (a row of the matrix) are predicted as each label (a column)."""
    found = needed(_SKLEARN, "a confusion matrix").confusion_matrix(list(gold), list(predicted), labels=list(labels))
    return [[int(count) for count in row] for row in found]


def _listed(one: Any) -> Any:
    return (one,) if isinstance(one, str) else one
