"""From probabilities to a decision: a temperature that makes them reliable, and a threshold from which a label holds.

    p_T = softmax(log p / T), or σ(logit p / T) where several labels may hold        (Guo et al. 2017, arXiv:1706.04599)

Both are fitted on dev rows alone. A temperature changes no decision: the order of the labels stays, and so does which side of
one half a probability is on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from graftwork.tasks.batches import softmax
from graftwork.tasks.rows import Prediction

_LEAST, _MOST = 0.05, 20.0  # of a temperature
_TINY = 1e-300
_GOLDEN = (math.sqrt(5) - 1) / 2
_HALVINGS = 80


@dataclasses.dataclass(frozen=True)
class Decision:
    """How probabilities become a prediction.

    Attributes:
        temperature: The temperature T; above 1 the probabilities are less sure.
        threshold: The probability above which the positive one of two labels, or each of several, is predicted; ``None`` for
            the likeliest label, or for one half.
    """

    temperature: float = 1.0
    threshold: float | None = None

    def of_one(self, prediction: Prediction, positive: str | None = None) -> Prediction:
        """The prediction of one of several labels, from one at the temperature 1.

        Args:
            prediction: The likeliest label, with the probability of each.
            positive: The one of two labels that the threshold is of.
        """
        named = prediction.probabilities
        if self == Decision() or named is None:
            return prediction
        chances = dict(zip(named, tempered([*named.values()], self.temperature).tolist(), strict=True))
        value = prediction.value
        if self.threshold is not None and positive is not None:
            (other,) = (name for name in chances if name != positive)
            value = positive if chances[positive] > self.threshold else other
        return Prediction(value, chances, prediction.extra)

    def of_several(self, prediction: Prediction) -> Prediction:
        """The prediction of any number of labels, from one at the temperature 1."""
        named = prediction.probabilities
        if self == Decision() or named is None:
            return prediction
        chances = dict(zip(named, each_tempered([*named.values()], self.temperature).tolist(), strict=True))
        if self.threshold is None:
            return Prediction(prediction.value, chances, prediction.extra)
        return Prediction(
            [name for name, chance in chances.items() if chance > self.threshold], chances, prediction.extra
        )


def tempered(chances: Sequence[float] | np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities ``(..., labels)`` of which one holds, at another temperature."""
    return softmax(np.log(np.maximum(np.asarray(chances, dtype=np.float64), _TINY)) / temperature)


def each_tempered(chances: Sequence[float] | np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities of which each may hold, at another temperature."""
    given = np.asarray(chances, dtype=np.float64)
    logits = np.log(np.maximum(given, _TINY)) - np.log(np.maximum(1.0 - given, _TINY))
    return 1.0 / (1.0 + np.exp(np.clip(-logits / temperature, -700, 700)))


def fit_temperature(chances: np.ndarray, right: np.ndarray, *, several: bool = False) -> float:
    """The temperature with the least negative log-likelihood of what is right; 1 where every row is right, which fits none.

    Args:
        chances: Probabilities ``(rows, labels)``.
        right: For each row the number of the label ``(rows,)``; with ``several`` zeros and ones ``(rows, labels)``.
        several: Whether each label may hold.
    """
    if several:
        if np.array_equal(chances > 0.5, right > 0.5):
            return 1.0

        def loss(inverse: float) -> float:
            found = each_tempered(chances, 1 / inverse)
            return -float(np.log(np.maximum(np.where(right > 0.5, found, 1 - found), _TINY)).mean())
    else:
        if np.array_equal(chances.argmax(-1), right):
            return 1.0

        def loss(inverse: float) -> float:
            found = tempered(chances, 1 / inverse)[np.arange(len(right)), right]
            return -float(np.log(np.maximum(found, _TINY)).mean())

    return 1 / _lowest(loss, 1 / _MOST, 1 / _LEAST)


def _lowest(loss: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is lowest, by the golden section; the loss is convex in the inverse temperature."""
    for _ in range(_HALVINGS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return (low + high) / 2


def fit_threshold(chances: np.ndarray, right: np.ndarray) -> float:
    """The threshold with the best F1 of what is above it; of several that are as good the nearest to one half.

    Args:
        chances: The probability of each decision, in any shape.
        right: Whether each is so, in the same shape.
    """
    flat, is_so = np.ravel(chances), np.ravel(right) > 0.5
    order = np.argsort(-flat, kind="stable")
    values, so = flat[order], is_so[order]
    cuts = np.flatnonzero(np.append(values[1:] < values[:-1], True))  # above each: all decisions up to there
    below = np.append(values[1:], 0.0)[cuts]
    hits = np.cumsum(so)[cuts]
    scores = 2 * hits / (cuts + 1 + so.sum()) if so.any() else np.zeros(len(cuts))
    middles = (values[cuts] + below) / 2
    best = np.flatnonzero(scores == scores.max(initial=0.0))
    if not so.any() or not len(best):
        return 0.5
    return float(min(middles[best], key=lambda middle: abs(middle - 0.5)))
