"""Trainings on several tasks as curves: the loss by step, and a line for each task's score, by epoch or by task learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from graftwork.report.curves import colour_among, finish
from graftwork.report.plots import new_figure
from graftwork.report.svg import Line, chart
from graftwork.report.words import metric_label, scale
from graftwork.training.planning.kinds import KINDS, UNIT_KINDS

_MEAN = "#000000"


class Curve(NamedTuple):
    """The score of one task, or of all in the mean, over a training.

    Attributes:
        task: The task; empty for the mean.
        points: Of epochs, or of the number of tasks learnt, and of scores as they are read.
        best: The place of the epoch that was kept, where one was chosen.
    """

    task: str
    points: list[tuple[float, float]]
    best: int | None = None


def kinds_of_all(units: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The units of all tasks by their kind and method, as their folders are called, in the order of the kinds."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for unit in sorted(units, key=lambda unit: KINDS.index(unit["kind"])):
        if UNIT_KINDS[unit["kind"]].of_all:
            label = f"{unit['kind']}-{unit['method']}" if unit.get("method") else unit["kind"]
            found.setdefault(label, []).append(unit)
    return found


def curves_of(unit: Mapping[str, Any]) -> list[Curve]:
    """The curves of a unit of all tasks, one a task; and their mean, where the best epoch was chosen by it.

    Args:
        unit: Its result.
    """
    scales = {task: scale(one["metric"]) for task, one in unit["tasks"].items()}
    if "sequence" in unit:
        order, rows = unit["sequence"]["order"], unit["sequence"]["scores"]
        return [
            Curve(task, [(step + 1, scales[task][0] * row[j]) for step, row in enumerate(rows) if j < len(row)])
            for j, task in enumerate(order)
        ]
    best = unit["best_epoch"] - 1
    found = [
        Curve(task, [(x, scales[task][0] * y) for x, y in points], best)
        for task, points in unit["curves"]["tasks"].items()
    ]
    if len(set(scales.values())) > 1:  # a mean of percents and others is on no scale of theirs
        return found
    factor = scale(unit["metric"])[0]
    return [*found, Curve("", [(x, factor * y) for x, y in unit["curves"]["score"]], best)]


def by_task_html(units: Sequence[Mapping[str, Any]]) -> str:
    """The charts of all seeds of a kind, beside each other.

    Args:
        units: Results of one kind of units of all tasks; one or more.
    """
    tasks, scores = list(units[0]["tasks"]), []
    for unit in units:
        scores += [
            Line(f"{curve.task or 'mean'}, seed {unit['seed']}", _colour(curve.task, tasks), curve.points, curve.best)
            for curve in curves_of(unit)
        ]
    losses = [Line(unit["unit"], _MEAN, [(x, y) for x, y in unit["curves"]["loss"]]) for unit in units]
    shown = dict.fromkeys(curve.task for curve in curves_of(units[0]))
    legend = "".join(
        f'<span><i style="background:{_colour(task, tasks)}"></i>{escape(task or "mean")}</span>' for task in shown
    )
    x, y = _axes(units)
    charts = chart(losses, "step", "loss") + chart(scores, x, y)
    dotted = "; the epoch that was kept is dotted" if any(line.marked is not None for line in scores) else ""
    return (
        f'<figure><p class="legend">{legend}</p>{charts}<figcaption>{"Left the loss, right" if losses[0].points else "The"} '
        f"score of each task by {escape(x)}: {escape(y)}{dotted}.</figcaption></figure>"
    )


def by_task_figure(units: Sequence[Mapping[str, Any]], title: str) -> Any:
    """The same for a file.

    Args:
        units: Results of one kind of units of all tasks; one or more.
        title: Above the picture.

    Raises:
        GraftworkError: If matplotlib is not installed.
    """
    figure = new_figure(11, 4.2)
    losses, scores = figure.subplots(1, 2)
    tasks, width = list(units[0]["tasks"]), 0.8 if len(units) > 1 else 1.8
    for unit in units:
        losses.plot(*_across(unit["curves"]["loss"]), color=_MEAN, linewidth=width)
        for curve in curves_of(unit):
            colour = _colour(curve.task, tasks)
            marker = "." if curve.best is None else None
            scores.plot(
                *_across(curve.points), label=curve.task or "mean", color=colour, linewidth=width, marker=marker
            )
            if curve.best is not None:
                scores.plot(*curve.points[curve.best], "o", markersize=4, color=colour)
    x, y = _axes(units)
    losses.set(xlabel="step", ylabel="loss")
    scores.set(xlabel=x, ylabel=y)
    finish(figure, losses, scores, title)
    return figure


def _axes(units: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """What lies along the two axes of the scores."""
    metrics = " and ".join(dict.fromkeys(metric_label(one["metric"]) for one in units[0]["tasks"].values()))
    if "sequence" in units[0]:
        return "tasks learnt", f"{metrics} on {units[0]['scored_on']}"
    return "epoch", f"{metrics} on dev"


def _colour(task: str, tasks: Sequence[str]) -> str:
    return colour_among(task, tasks) if task else _MEAN


def _across(points: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [p[0] for p in points], [p[1] for p in points]
