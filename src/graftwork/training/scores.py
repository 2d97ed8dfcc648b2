"""The rows that a task is scored on, and its scores there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graftwork.tasks import Prediction, Rows, Task
from graftwork.tasks.decisions import Decision
from graftwork.training.outputs import number

Result = dict[str, Any]
Measure = Callable[[Rows], tuple[dict[str, float], list[Prediction]]]
_MEAN, _AND = "mean of ", " and "


def mean_metric(metrics: Iterable[str]) -> str:
    """The name of the mean of several tasks' scores: ``mean of accuracy and f1``."""
    return _MEAN + _AND.join(dict.fromkeys(metrics))


def metrics_in(metric: str) -> list[str]:
    """The metrics that a name of `mean_metric` is made of; any other metric alone."""
    return metric.removeprefix(_MEAN).split(_AND) if metric.startswith(_MEAN) else [metric]


def scored_task(task: Task, measure: Measure) -> tuple[Result, list[Any]]:
    """A task's scores on every split, and its predictions on test, or on dev where test has no answers.

    With ``folds`` it is dev, where every row comes once. Where the task asks for it, a threshold and a temperature are fitted on
    the dev rows, and kept with the scores.
    """
    splits = splits_of(task)
    found = {split: measure(rows) for split, rows in splits.items()}
    decision = task.kind.fit_decision(found["dev"][1], task.dev)
    if decision is not None:
        found = {split: decided(task, decision, found[split][1], rows) for split, rows in splits.items()}
    on = "test" if "test" in found and not task.folds else "dev"
    scores = {split: metrics for split, (metrics, _) in found.items()}
    result = {
        "labels": list(task.labels),
        **({} if task.kind.positive is None else {"positive": task.kind.positive}),
        **({"folds": len(task.folds)} if task.folds else {}),
        **({} if decision is None else {"decision": dataclasses.asdict(decision)}),
        "metric": task.metric,
        "score": scores[on][task.metric],
        "scored_on": on,
        "scores": scores,
    }
    return result, [prediction.to_dict()["value"] for prediction in found[on][1]]


def decided(
    task: Task, decision: Decision, predictions: Sequence[Prediction], rows: Rows
) -> tuple[dict[str, float], list[Prediction]]:
    """The scores of predictions once a decision is fitted, and these predictions; they were made before, at the temperature 1."""
    kind = task.kind.with_decision(decision)
    found = [kind.decided(one) for one in predictions]
    return {name: number(value) for name, value in kind.score(found, rows).items()}, found


def splits_of(task: Task) -> dict[str, Rows]:
    """The rows that a task is scored on by split: its dev rows, and its test rows if all of them have answers."""
    splits: dict[str, Rows] = {"dev": task.dev}
    if task.test is not None and all(task.kind.answer(cells) is not None for cells in task.kind.cells(task.test)):
        splits["test"] = task.test
    return splits
