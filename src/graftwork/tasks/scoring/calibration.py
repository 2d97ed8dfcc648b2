"""Whether probabilities can be relied on: how often what is said with some probability is right.

ECE = Σ_b n_b / n · |right_b − said_b|        b bins of equal width (Guo et al. 2017, arXiv:1706.04599)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

_BINS = 10


@dataclasses.dataclass(frozen=True)
class Bin:
    """The predictions whose probability is above ``low`` and at most ``high``.

    Attributes:
        low: The bound below.
        high: The bound above.
        count: How many they are.
        said: The mean of their probabilities; ``None`` where there are none.
        right: The share of them that is right; ``None`` where there are none.
    """

    low: float
    high: float
    count: int
    said: float | None
    right: float | None


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How far probabilities are from what happens.

    Attributes:
        ece: The expected calibration error, 0 to 1: the mean difference of probability and share of right predictions.
        bins: What it is made of.
    """

    ece: float
    bins: tuple[Bin, ...]


def calibration(probabilities: Sequence[float], right: Sequence[bool], bins: int = _BINS) -> Calibration:
    """The calibration of predictions.

    Args:
        probabilities: The probability of each prediction, as the model says it.
        right: Whether each is right.
        bins: How many bins of equal width there are.

    Example:
        >>> round(calibration([0.95, 0.95, 0.55, 0.55], [True, True, True, False]).ece, 3)
        0.05
    """
    inside: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for probability, is_right in zip(probabilities, right, strict=True):
        inside[min(max(math.ceil(probability * bins) - 1, 0), bins - 1)].append((probability, is_right))
    found = []
    for number, pairs in enumerate(inside):
        said = sum(p for p, _ in pairs) / len(pairs) if pairs else None
        share = sum(is_right for _, is_right in pairs) / len(pairs) if pairs else None
        found.append(Bin(number / bins, (number + 1) / bins, len(pairs), said, share))
    gaps = (one.count * abs(one.said - one.right) for one in found if one.said is not None and one.right is not None)
    return Calibration(sum(gaps) / max(len(probabilities), 1), tuple(found))
