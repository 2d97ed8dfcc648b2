"""How sure a difference of two scores is: rows are drawn again with replacement, the same ones for both (paired bootstrap).

    d*_b = mean over seeds of  m(rows_b, one) − m(rows_b, other)        b = 1 … draws

    interval: the 2.5 % and 97.5 % quantiles of d*        p = 2 · min(P(d* ≤ 0), P(d* ≥ 0))

with m the task's metric (Efron & Tibshirani 1993; for systems of language processing Koehn 2004, Berg-Kirkpatrick et al.
2012). What is drawn is the rows that were scored, so that the interval has their noise; that of training is in it as far as
there are seeds to average over.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from graftwork.tasks import Prediction, Rows, Task
from graftwork.tasks.scoring import find_metric
from graftwork.tasks.scoring.labels import LABEL
from graftwork.training.trainers.outputs import number

DRAWS = 10_000  # of a metric that is computed for all draws at once
FEWER = 1_000  # of one that has to be computed anew for each
_AT_ONCE = 2_000_000  # numbers of rows in memory
_LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference of two scores, the first less the second.

    Attributes:
        value: On the rows as they are.
        low: Of the 95 % interval.
        high: Of the 95 % interval.
        p: Two-sided: how often the draws lie on the other side of 0.
        draws: How many there were.
    """

    value: float
    low: float
    high: float
    p: float
    draws: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**dataclasses.asdict(self), "clear": self.clear}


class Drawn(NamedTuple):
    """A score on the rows, and on every draw of them ``(draws,)``."""

    score: float
    draws: np.ndarray


class Resampling:
    """The same draws of a task's rows, for everything that was scored on them.

    Args:
        task: The task; its main metric counts.
        rows: The rows, with answers.
        draws: How many; by default 10,000 of a metric that is a mean over rows or tells from counts of labels, 1,000 of one
            that has to be computed anew for each.
        seed: Of the draws.
    """

    def __init__(self, task: Task, rows: Rows, *, draws: int | None = None, seed: int = 0) -> None:
        self.task, self.rows, self.seed = task, rows, seed
        self.metric = find_metric(task.metric, task.kind.form, f"task {task.name!r}")
        self._drawn = self._whole
        if self.metric.by_row:
            self._drawn = self._by_row
        elif self.metric.of_counts is not None and task.kind.form == LABEL:
            self._drawn = self._by_counts
        self.draws = draws or (FEWER if self._drawn == self._whole else DRAWS)

    def __call__(self, values: Sequence[Any]) -> Drawn | None:
        """The score of some predictions, and that of every draw.

        Args:
            values: What was said of each row, as `read_predictions` gives it.

        Returns:
            ``None`` where the values alone do not tell the score, because the kind scores something else of a prediction.
        """
        if len(values) != len(self.rows):
            return None
        try:
            predicted, gold = self.task.kind.pairs([Prediction(value) for value in values], self.rows)
        except KeyError:  # it reads what a prediction has beside its value
            return None
        score = self._score(predicted, gold)
        return Drawn(score, self._drawn(predicted, gold))

    def _by_row(self, predicted: Sequence[Any], gold: Sequence[Any]) -> np.ndarray:
        each = np.array([self._score([p], [g]) for p, g in zip(predicted, gold, strict=True)])
        return np.concatenate([each[chosen].mean(1) for chosen in self._chosen(len(each))])

    def _by_counts(self, predicted: Sequence[Any], gold: Sequence[Any]) -> np.ndarray:
        """One label a row: how often each was said for each is all that the metric needs."""
        assert self.metric.of_counts is not None
        names = {name: n for n, name in enumerate(dict.fromkeys([*self.task.kind.scored_labels, *gold, *predicted]))}
        cells = np.array([names[p] * len(names) + names[g] for p, g in zip(predicted, gold, strict=True)])
        found = []
        for chosen in self._chosen(len(cells)):
            places = cells[chosen] + len(names) ** 2 * np.arange(len(chosen))[:, None]
            counts = np.bincount(places.ravel(), minlength=len(chosen) * len(names) ** 2)
            found.append(
                self.metric.of_counts(counts.reshape(-1, len(names), len(names)), self.task.kind.scored_labels)
            )
        return np.concatenate(found)

    def _chosen(self, count: int) -> Iterator[np.ndarray]:
        """The rows of every draw ``(draws, rows)``, so many at once as there is room for."""
        random, size = np.random.default_rng(self.seed), max(1, _AT_ONCE // count)
        for start in range(0, self.draws, size):
            yield random.integers(0, count, (min(size, self.draws - start), count))

    def _whole(self, predicted: Sequence[Any], gold: Sequence[Any]) -> np.ndarray:
        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a draw may lack a label, and that is no news
            for chosen in self._chosen(len(gold)):
                for rows in chosen.tolist():
                    found.append(self._score([predicted[n] for n in rows], [gold[n] for n in rows]))
        return np.array(found)

    def _score(self, predicted: Sequence[Any], gold: Sequence[Any]) -> float:
        return number(self.metric(predicted, gold, self.task.kind.scored_labels))


def difference(one: Mapping[int, Drawn], other: Mapping[int, Drawn]) -> Difference | None:
    """The difference of two trainings of one task, pooled over the seeds that both have.

    Args:
        one: For each seed what `Resampling` gave of it.
        other: The same of what it is compared with, by the same draws.

    Returns:
        ``None`` where they have no seed in common.
    """
    found = _apart(one, other)
    return None if found is None else _told(*found)


def mean_difference(pairs: Sequence[tuple[Mapping[int, Drawn], Mapping[int, Drawn]]]) -> Difference | None:
    """The mean difference over several tasks, whose rows were drawn each for itself.

    Args:
        pairs: What `difference` takes, of each task.

    Returns:
        ``None`` where a task has no seed in common.
    """
    found = [_apart(one, other) for one, other in pairs]
    there = [one for one in found if one is not None]
    if not there or len(there) < len(found):
        return None
    least = min(len(draws) for _, draws in there)
    return _told(float(np.mean([value for value, _ in there])), np.mean([draws[:least] for _, draws in there], axis=0))


def _apart(one: Mapping[int, Drawn], other: Mapping[int, Drawn]) -> tuple[float, np.ndarray] | None:
    """The difference on the rows, and on every draw, the mean over the seeds."""
    seeds = [seed for seed in one if seed in other]
    if not seeds:
        return None
    value = float(np.mean([one[seed].score - other[seed].score for seed in seeds]))
    return value, np.mean([one[seed].draws - other[seed].draws for seed in seeds], axis=0)


def _told(value: float, draws: np.ndarray) -> Difference:
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    fewer = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (int(fewer) + 1) / (len(draws) + 1))  # never 0: so many draws cannot say that
    return Difference(value, float(low), float(high), p, len(draws))
