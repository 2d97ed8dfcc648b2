"""Metrics by name: functions of predicted and right values; higher is better for every one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graftwork.errors import TaskError
from graftwork.options import nearest, needed

Function = Callable[[Sequence[Any], Sequence[Any], Sequence[str]], float]
OfCounts = Callable[[np.ndarray, Sequence[str]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number for how good predictions are.

    Attributes:
        name: The name under which it is registered.
        forms: The forms of values that it takes; each `Kind` has one form.
        function: A function of the predicted values, the right values and the labels' names.
        by_row: Whether it is the mean of a number for each row alone, so that many draws of rows are resampled at once.
        of_counts: The same metric from many tables of counts at once, for values that are one label each (see
            `graftwork.tasks.scoring.counts`).
        needs: The module of the extra ``tasks`` that computes it, if any.
    """

    name: str
    forms: tuple[str, ...]
    function: Function
    by_row: bool = False
    of_counts: OfCounts | None = None
    needs: str = ""

    def require(self) -> None:
        """Check that the library it needs is installed.

        Raises:
            TaskError: If it is not.
        """
        if self.needs:
            needed(self.needs, f"the metric {self.name}")

    def __call__(self, predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str] = ()) -> float:
        """The metric of predicted and right values, as many of one as of the other."""
        if len(predicted) != len(gold):
            raise TaskError(f"{self.name}: {len(predicted)} predictions for {len(gold)} rows; give one for each")
        return float(self.function(predicted, gold, labels)) if len(gold) else 0.0


metrics: dict[str, Metric] = {}


def metric(
    name: str, *forms: str, by_row: bool = False, of_counts: OfCounts | None = None, needs: str = ""
) -> Callable[[Function], Function]:
    """Decorator that registers a function as a metric; the arguments are the attributes of `Metric`."""

    def add(function: Function) -> Function:
        if name in metrics:
            raise TaskError(f"a metric {name!r} is registered already; choose another name")
        metrics[name] = Metric(name, forms, function, by_row, of_counts, needs)
        return function

    return add


def find_metric(name: str, form: str, where: str) -> Metric:
    """A metric by its name; a `TaskError` if it is unknown, or does not take values of this form."""
    if name not in metrics:
        raise TaskError(f"{where}: metric {name!r} is not known; {nearest(name, metrics)}")
    fitting = [known for known, found in metrics.items() if form in found.forms]
    if name not in fitting:
        raise TaskError(
            f"{where}: metric {name!r} is of {' and '.join(metrics[name].forms)}, not of {form}; {nearest('', fitting)}"
        )
    return metrics[name]
