"""Forgetting and transfer in a sequence of tasks: a matrix of scores, and figures of it.

    R[i][j]   score of task j after training on tasks 0 … i        T tasks

    forgetting  F = 1/(T−1) Σ_{j<T−1} ( max_{j≤i<T−1} R[i][j] − R[T−1][j] )       (Chaudhry et al. 2018, arXiv:1801.10112)
    backward    B = 1/(T−1) Σ_{j<T−1} ( R[T−1][j] − R[j][j] )                     (Lopez-Paz & Ranzato 2017, arXiv:1706.08840)
    forward     W = 1/(T−1) Σ_{0<j}   ( R[j][j] − S[j] )

with S[j] the score of a training on task j alone. (The second paper measures forward transfer before a task is trained; with a
head for each task, which is random until then, that measures nothing.) All are in the unit of the scores; forgetting is bad
where positive, the two transfers where negative.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Collection, Mapping
from typing import Any

from graftwork.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Forgetting:
    """The scores of a sequence.

    Attributes:
        order: The tasks in the order in which they were trained.
        scores: ``scores[i][j]`` of task j after step i, for all ``j ≤ i``.

    Raises:
        ConfigError: If it is no triangle of finite numbers, a row a task, or of no task at all.
    """

    order: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.order:
            raise ConfigError("a sequence has one task or more, and none is given")
        sizes = [len(row) for row in self.scores]
        if sizes != list(range(1, len(self.order) + 1)):
            raise ConfigError(
                f"a sequence of {len(self.order)} tasks has rows of 1 to {len(self.order)} scores, not {sizes}"
            )
        for step, row in enumerate(self.scores):
            for task, score in zip(self.order, row, strict=False):
                if not math.isfinite(score):
                    raise ConfigError(f"the score of {task!r} after {self.order[step]!r} is {score}; it must be finite")

    @property
    def forgotten(self) -> dict[str, float]:
        """For each task but the last, how far it fell from its best; negative where it rose."""
        last = self.scores[-1]
        return {task: max(row[j] for row in self.scores[j:-1]) - last[j] for j, task in enumerate(self.order[:-1])}

    @property
    def average_forgetting(self) -> float | None:
        """F; ``None`` for one task."""
        return _mean(self.forgotten.values())

    @property
    def backward_transfer(self) -> float | None:
        """B; ``None`` for one task."""
        return _mean([self.scores[-1][j] - self.scores[j][j] for j in range(len(self.order) - 1)])

    def forward_transfer(self, alone: Mapping[str, float]) -> float | None:
        """W, over those tasks but the first that were trained alone too; ``None`` without any.

        Args:
            alone: The score of a training on a task alone, by task.
        """
        return _mean([self.scores[j][j] - alone[task] for j, task in enumerate(self.order) if j and task in alone])

    def to_dict(self) -> dict[str, Any]:
        """The scores and their figures as JSON values."""
        return {
            "order": list(self.order),
            "scores": [list(row) for row in self.scores],
            "average_forgetting": self.average_forgetting,
            "backward_transfer": self.backward_transfer,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Forgetting:
        """The scores that `to_dict` gave."""
        return cls(tuple(data["order"]), tuple(tuple(row) for row in data["scores"]))


def interference(alone: Mapping[str, float], together: Mapping[str, float]) -> dict[str, float]:
    """How much better each task is when trained with others than alone; negative where they harm it."""
    return {task: together[task] - alone[task] for task in together if task in alone}


def _mean(values: Collection[float]) -> float | None:
    return statistics.fmean(values) if values else None
