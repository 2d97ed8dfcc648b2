"""Metrics by name: a function of what was predicted and what is right; higher is better for every one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graftwork.errors import TaskError
from graftwork.options import nearest
from graftwork.tasks.optional_imports import needed

Function = Callable[[Sequence[Any], Sequence[Any], Sequence[str]], float]
OfCounts = Callable[[np.ndarray, Sequence[str]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number for how good predictions are.

    Attributes:
        name: Under which it is registered.
        forms: The forms of values that it takes; a `Kind` says the form of its own.
        function: Of what was predicted, what is right, and the labels' names.
        by_row: Whether it is the mean over rows of what each row has alone, which can be resampled by rows at once.
        of_counts: The same for values that are one label each, of many tables of counts at once (see
            `graftwork.tasks.scoring.counts`).
        needs: The module that it is computed by, where that is of the extra ``tasks``.
    """

    name: str
    forms: tuple[str, ...]
    function: Function
    by_row: bool = False
    of_counts: OfCounts | None = None
    needs: str = ""

    def require(self) -> None:
        """Refuse where the library is not installed that it needs.

        Raises:
            TaskError: If so.
        """
        if self.needs:
            needed(self.needs, f"the metric {self.name}")

    def __call__(self, predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str] = ()) -> float:
        """The metric of two sequences of the same length."""
        if len(predicted) != len(gold):
            raise TaskError(f"{self.name}: {len(predicted)} predictions for {len(gold)} rows; give one for each")
        return float(self.function(predicted, gold, labels)) if len(gold) else 0.0


metrics: dict[str, Metric] = {}


def metric(
    name: str, *forms: str, by_row: bool = False, of_counts: OfCounts | None = None, needs: str = ""
) -> Callable[[Function], Function]:
    """Decorator: make a function known as a metric of values of such forms.

    Args:
        name: The metric's.
        forms: Of the values that it takes.
        by_row: Whether it is the mean over rows of what each row has alone.
        of_counts: The same of tables of counts, for values that are one label each.
        needs: The module that it is computed by, where that is of the extra ``tasks``.
    """

    def add(function: Function) -> Function:
        if name in metrics:
            raise TaskError(f"a metric {name!r} is registered already; choose another name")
        metrics[name] = Metric(name, forms, function, by_row, of_counts, needs)
        return function

    return add


def find_metric(name: str, form: str, where: str) -> Metric:
    """A metric by its name, for values of a form.

    Raises:
        TaskError: If it is unknown, or takes values of other forms.
    """
    fitting = [known for known, found in metrics.items() if form in found.forms]
    if name not in metrics:
        raise TaskError(f"{where}: metric {name!r} is not known; {nearest(name, metrics)}")
    if name not in fitting:
        raise TaskError(
            f"{where}: metric {name!r} is of {' and '.join(metrics[name].forms)}, not of {form}; {nearest('', fitting)}"
        )
    return metrics[name]
