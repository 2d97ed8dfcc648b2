"""How certain a difference of two scores is: rows are drawn again with replacement, the same for both (paired bootstrap).

    d*_b = mean over seeds of  m(rows_b, one) − m(rows_b, other)        b = 1 … draws

    interval: the 2.5 % and 97.5 % quantiles of d*        p = 2 · min(P(d* ≤ 0), P(d* ≥ 0))

with m the task's metric (Efron & Tibshirani 1993; for systems of language processing Koehn 2004, Berg-Kirkpatrick et al.
2012). The rows that were scored are drawn, so that the interval has their noise; that of training is in it as far as there are
seeds to average over. With folds each seed has scored other rows, and rows_b is drawn anew for each fold.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from graftwork.tasks import Prediction, Rows, Task
from graftwork.tasks.scoring import find_metric
from graftwork.tasks.scoring.labels import LABEL
from graftwork.training.outputs import number

DRAWS = 10_000  # for a metric that is computed for all draws at once
FEWER = 1_000  # for one that is computed anew for each
_AT_ONCE = 2_000_000  # row numbers in memory
_LEVEL = 0.95
Scores = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference of two scores, the first less the second.

    Attributes:
        value: The difference on the rows as they are.
        low: The lower end of the 95 % interval.
        high: Its upper end.
        p: The two-sided p-value: how often the draws are on the other side of 0.
        draws: The number of draws.
    """

    value: float
    low: float
    high: float
    p: float
    draws: int

    @property
    def clear(self) -> bool:
        """Whether the interval does not contain 0."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON."""
        return {**dataclasses.asdict(self), "clear": self.clear}


class Drawn(NamedTuple):
    """A score on the rows, and on every draw of them ``(draws,)``."""

    score: float
    draws: np.ndarray


class Resampling:
    """The same draws of a task's rows, for everything that was scored on them.

    Args:
        task: The task, scored by its main metric.
        rows: The rows, with answers.
        draws: The number of draws; by default 10,000 for a metric that is a mean over rows or computed from counts of labels,
            1,000 for one that is computed anew for each draw.
        seed: The seed of the draws, or several numbers that make it.
    """

    def __init__(self, task: Task, rows: Rows, *, draws: int | None = None, seed: int | Sequence[int] = 0) -> None:
        self.task, self.rows, self.seed = task, rows, seed
        self.metric = find_metric(task.metric, task.kind.form, f"task {task.name!r}")
        counted = self.metric.of_counts is not None and task.kind.form == LABEL
        self._scores = self._of_rows if self.metric.by_row else self._of_counts if counted else self._of_each
        self.draws = draws or (FEWER if self._scores == self._of_each else DRAWS)

    def __call__(self, values: Sequence[Any]) -> Drawn | None:
        """The score of some predictions, and that of every draw.

        Args:
            values: The prediction for each row, as `read_predictions` gives it.

        Returns:
            ``None`` where the values are not enough, because the kind scores something else of a prediction.
        """
        if len(values) != len(self.rows):
            return None
        try:
            predicted, gold = self.task.kind.pairs([Prediction(value) for value in values], self.rows)
        except KeyError:  # it scores more of a prediction than its value
            return None
        random, size = np.random.default_rng(self.seed), max(1, _AT_ONCE // len(gold))
        scores = self._scores(predicted, gold)
        sizes = [min(size, self.draws - start) for start in range(0, self.draws, size)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a draw may lack a label
            drawn = [scores(random.integers(0, len(gold), (count, len(gold)))) for count in sizes]
        return Drawn(self._score(predicted, gold), np.concatenate(drawn))

    # Each of these gives a function from the rows of some draws, (draws, rows), to the scores, (draws,).

    def _of_rows(self, predicted: Sequence[Any], gold: Sequence[Any]) -> Scores:
        """The mean of the metric of each row."""
        each = np.array([self._score([p], [g]) for p, g in zip(predicted, gold, strict=True)])
        return lambda chosen: each[chosen].mean(1)

    def _of_counts(self, predicted: Sequence[Any], gold: Sequence[Any]) -> Scores:
        """A metric of labels that is computed from the counts of each pair of a predicted and a gold label."""
        known = self.task.kind.scored_labels
        number_of = {name: n for n, name in enumerate(dict.fromkeys([*known, *gold, *predicted]))}
        labels, of_counts = len(number_of), self.metric.of_counts
        cells = np.array([number_of[p] * labels + number_of[g] for p, g in zip(predicted, gold, strict=True)])

        def scores(chosen: np.ndarray) -> np.ndarray:
            places = cells[chosen] + labels**2 * np.arange(len(chosen))[:, None]  # a table of counts for each draw
            counts = np.bincount(places.ravel(), minlength=len(chosen) * labels**2)
            return of_counts(counts.reshape(-1, labels, labels), known)  # type: ignore[misc]  # checked in __init__

        return scores

    def _of_each(self, predicted: Sequence[Any], gold: Sequence[Any]) -> Scores:
        """Any other metric, computed anew for each draw."""

        def score(rows: list[int]) -> float:
            return self._score([predicted[n] for n in rows], [gold[n] for n in rows])

        return lambda chosen: np.array([score(rows) for rows in chosen.tolist()])

    def _score(self, predicted: Sequence[Any], gold: Sequence[Any]) -> float:
        return number(self.metric(predicted, gold, self.task.kind.scored_labels))


def mean_difference(pairs: Sequence[tuple[Mapping[int, Drawn], Mapping[int, Drawn]]]) -> Difference | None:
    """The mean difference over one task or more, pooled over the seeds that both trainings have.

    Args:
        pairs: For each task, by seed, what `Resampling` gave for the two trainings that are compared, by the same draws.

    Returns:
        ``None`` where they have no seed in common on a task.
    """
    values, drawn = [], []
    for one, other in pairs:
        seeds = [seed for seed in one if seed in other]
        if not seeds:
            return None
        values.append(np.mean([one[seed].score - other[seed].score for seed in seeds]))
        drawn.append(np.mean([one[seed].draws - other[seed].draws for seed in seeds], axis=0))
    draws = np.mean([each[: min(map(len, drawn))] for each in drawn], axis=0)
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    fewer = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (int(fewer) + 1) / (len(draws) + 1))  # never 0, which no number of draws shows
    return Difference(float(np.mean(values)), float(low), float(high), p, len(draws))
