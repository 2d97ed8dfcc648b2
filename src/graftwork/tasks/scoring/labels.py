"""One label a row, or several: scikit-learn's metrics, on names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graftwork.options import needed
from graftwork.tasks.scoring import counts
from graftwork.tasks.scoring.registry import metric
from graftwork.tasks.scoring.texts import TEXT

_SKLEARN = "sklearn.metrics"
LABEL, LABEL_SET, CHOICE = "labels", "sets of labels", "choices"


def _sklearn() -> Any:
    return needed(_SKLEARN, "this metric")


@metric("accuracy", LABEL, CHOICE, LABEL_SET, TEXT, by_row=True)
def accuracy(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The share of rows that are right as a whole."""
    return sum(_right(p, g) for p, g in zip(predicted, gold, strict=True)) / len(gold)


@metric("f1", LABEL, LABEL_SET, of_counts=counts.f1, needs=_SKLEARN)
def f1(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """Of two labels, the F1 of the second one, a task's positive one; else the mean of all labels' F1."""
    if len(labels) == 2 and not _sets(gold):
        return _sklearn().f1_score(gold, predicted, pos_label=labels[1], labels=list(labels), zero_division=0.0)
    return _f1(predicted, gold, labels, "macro")


@metric("macro_f1", LABEL, LABEL_SET, of_counts=counts.macro_f1, needs=_SKLEARN)
def macro_f1(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The mean of all labels' F1; one that is neither right nor predicted anywhere does not count."""
    return _f1(predicted, gold, labels, "macro")


@metric("micro_f1", LABEL, LABEL_SET, of_counts=counts.micro_f1, needs=_SKLEARN)
def micro_f1(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """F1 over all labels of all rows together."""
    return _f1(predicted, gold, labels, "micro")


@metric("matthews", LABEL, of_counts=counts.matthews, needs=_SKLEARN)
def matthews(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The correlation of Matthews, -1 to 1; 0 where all predictions are the same."""
    return _sklearn().matthews_corrcoef(gold, predicted)


def _f1(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str], average: str) -> float:
    if _sets(gold):
        names = sorted({*labels, *(name for row in (*gold, *predicted) for name in row)})
        rows = [[[int(name in row) for name in names] for row in side] for side in (gold, predicted)]
        met = [n for n in range(len(names)) if any(row[n] for side in rows for row in side)]
        if not met:  # no row has a label, and none was predicted
            return 1.0
        return _sklearn().f1_score(*rows, labels=met, average=average, zero_division=0.0)
    return _sklearn().f1_score(gold, predicted, average=average, zero_division=0.0)


def _sets(gold: Sequence[Any]) -> bool:
    return not isinstance(gold[0], (str, int))


def _right(predicted: Any, gold: Any) -> bool:
    if isinstance(gold, (str, int)):
        return bool(predicted == gold)
    # for a written text there may be several right ones; a set of labels is right as a whole
    return predicted.strip() in gold if isinstance(predicted, str) else set(predicted) == set(gold)
