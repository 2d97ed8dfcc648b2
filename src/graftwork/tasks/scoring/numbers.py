"""Numbers: correlations of scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graftwork.options import needed
from graftwork.tasks.scoring.registry import metric

NUMBER = "numbers"


@metric("pearson", NUMBER, needs="scipy.stats")
def pearson(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The linear correlation, -1 to 1."""
    return _correlation("pearsonr", predicted, gold)


@metric("spearman", NUMBER, needs="scipy.stats")
def spearman(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The correlation of ranks, -1 to 1."""
    return _correlation("spearmanr", predicted, gold)


def _correlation(function: str, predicted: Sequence[Any], gold: Sequence[Any]) -> float:
    # undefined where all numbers are the same; 0 is comparable: a model that always gives one number knows nothing
    if len(set(predicted)) < 2 or len(set(gold)) < 2:
        return 0.0
    found = float(getattr(needed("scipy.stats", f"the metric {function[:-1]}"), function)(predicted, gold)[0])
    return found if math.isfinite(found) else 0.0
