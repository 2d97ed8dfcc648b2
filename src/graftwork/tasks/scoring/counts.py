"""Metrics of one label a row from counts alone: many tables of counts at once, as resampling has them.

    n[b, p, g]   rows of draw b for which p was predicted and g is right        →   a number a draw

The same numbers as scikit-learn gives for the rows one by one (`graftwork.tasks.scoring.labels`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def f1(counts: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Of two labels, the F1 of the second one; else the mean of all labels' F1.

    The labels are those of the task; others follow them in the counts.
    """
    return _each(counts)[:, 1] if len(labels) == 2 else macro_f1(counts, labels)


def macro_f1(counts: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The mean of all labels' F1; one that is neither right nor predicted anywhere does not count."""
    met = counts.sum(1) + counts.sum(2) > 0
    return (_each(counts) * met).sum(1) / np.maximum(met.sum(1), 1)


def micro_f1(counts: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The share of rows that are right, since each has one label."""
    return np.einsum("bii->b", counts) / np.maximum(counts.sum((1, 2)), 1)


def matthews(counts: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The correlation of Matthews; 0 where all predictions are the same, or all right labels."""
    predicted, right, rows = counts.sum(2).astype(float), counts.sum(1).astype(float), counts.sum((1, 2)).astype(float)
    over = np.einsum("bii->b", counts) * rows - (predicted * right).sum(1)
    below = np.sqrt((rows**2 - (predicted**2).sum(1)) * (rows**2 - (right**2).sum(1)))
    return np.divide(over, below, out=np.zeros_like(over), where=below > 0)


def _each(counts: np.ndarray) -> np.ndarray:
    """The F1 of every label, ``(draws, labels)``; 0 where it is neither right nor predicted."""
    both = (counts.sum(1) + counts.sum(2)).astype(float)
    return np.divide(2.0 * np.einsum("bii->bi", counts), both, out=np.zeros_like(both), where=both > 0)
