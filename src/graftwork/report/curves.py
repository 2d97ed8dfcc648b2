"""Pictures of trainings: the loss by step, and the scores by epoch or by the number of tasks learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from graftwork.experiments.kinds import KINDS, UNIT_KINDS
from graftwork.report.formatting import column_label, metric_label, scale
from graftwork.report.plots import panels

# Okabe and Ito's colours, which the colour-blind tell apart.
_BLACK, _GREY, _BLUE, _SKY, _GREEN, _YELLOW, _ORANGE, _RED, _PURPLE = (
    "#000000 #999999 #0072B2 #56B4E9 #009E73 #F0E442 #E69F00 #D55E00 #CC79A7".split()
)
# Kinds that are alike share a colour: their lines are told apart by their names.
_OF_KINDS = {
    **dict.fromkeys(("full", "trunk", "intermediate_full", "sequential", "multitask", "tuned"), _BLACK),
    **dict.fromkeys(("adapter", "longer", "intermediate", "mt_shared", "new_task", "sequential_adapters"), _BLUE),
    **dict.fromkeys(("language", "knowledge", "mt_joint"), _GREEN),
    "head": _GREY,
    "average": _SKY,
    "own": _ORANGE,
    "copies": _PURPLE,
    "scalearn": _YELLOW,
    **dict.fromkeys(("fusion", "fusion_mt"), _RED),
}
_OF_METHODS = (_GREEN, _PURPLE, _ORANGE, _SKY, _YELLOW, _RED)
_NAMES = 2  # of a legend below a panel, on one line


class Curve(NamedTuple):
    """One line of a picture.

    Attributes:
        name: Stands in the legend; empty where it does not.
        shown: Is read where the pointer rests on it, on a page.
        colour: Of the line.
        points: Of steps, epochs or the number of tasks learnt, and of losses, or scores as they are read.
        best: The place of the epoch that was kept, where one was chosen.
    """

    name: str
    shown: str
    colour: str
    points: Sequence[Sequence[float]]
    best: int | None = None


def colour(unit: Mapping[str, Any], methods: Sequence[str] = ()) -> str:
    """The colour of a unit, or of a row of the results.

    Args:
        unit: With its ``kind``, and its ``method`` where it is one of several.
        methods: All methods that are shown; each has a colour of its own as long as there are enough.
    """
    if not unit.get("method"):
        return _OF_KINDS[unit["kind"]]
    return _colour_among(unit["method"], methods) if unit["method"] in methods else _GREEN


def methods_in(units: Sequence[Mapping[str, Any]]) -> list[str]:
    """The methods of some units, each once."""
    return list(dict.fromkeys(unit["method"] for unit in units if "method" in unit))


def kinds_of_all(units: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The units of all tasks by their kind and method, as their folders are called, in the order of the kinds."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for unit in _in_order(units):
        if UNIT_KINDS[unit["kind"]].of_all:
            label = f"{unit['kind']}-{unit['method']}" if unit.get("method") else unit["kind"]
            found.setdefault(label, []).append(unit)
    return found


def curves(units: Sequence[Mapping[str, Any]], title: str) -> Any:
    """A figure of the trainings of one task: a line each, coloured by its kind; thin where a kind has several seeds.

    Args:
        units: Results of units.
        title: Above the picture.

    Raises:
        GraftworkError: If matplotlib is not installed.
    """
    losses, scores, methods = [], [], methods_in(units)
    for unit in _in_order(units):
        drawn = column_label(unit["kind"], unit.get("method", "")), unit["unit"], colour(unit, methods)
        losses.append(Curve(*drawn, unit["curves"]["loss"]))
        scores.append(Curve(*drawn, _read(unit["curves"]["score"], unit["metric"]), unit["best_epoch"] - 1))
    metrics = ", ".join(sorted({metric_label(unit["metric"]) for unit in units}))
    return _two_panels(losses, scores, "epoch (the best one is dotted)", f"{metrics} on dev", title)


def curves_of(unit: Mapping[str, Any]) -> list[Curve]:
    """The scores of a unit of all tasks, one curve a task; and their mean, where the best epoch was chosen by it.

    Args:
        unit: Its result.
    """
    metrics = {task: one["metric"] for task, one in unit["tasks"].items()}

    def curve(task: str, points: Sequence[Sequence[float]], best: int | None = None) -> Curve:
        paint = _colour_among(task, list(metrics))
        return Curve(task, f"{task}, seed {unit['seed']}", paint, _read(points, metrics[task]), best)

    if "sequence" in unit:
        order, rows = unit["sequence"]["order"], unit["sequence"]["scores"]
        return [
            curve(task, [(step + 1, row[j]) for step, row in enumerate(rows) if j < len(row)])
            for j, task in enumerate(order)
        ]
    best = unit["best_epoch"] - 1
    found = [curve(task, points, best) for task, points in unit["curves"]["tasks"].items()]
    if len(set(map(scale, metrics.values()))) > 1:  # a mean of percents and others is on no scale of theirs
        return found
    mean = _read(unit["curves"]["score"], unit["metric"])
    return [*found, Curve("mean", f"mean, seed {unit['seed']}", _BLACK, mean, best)]


def by_task_figure(units: Sequence[Mapping[str, Any]], title: str) -> Any:
    """A figure of trainings on several tasks: a line for each task's score and seed.

    Args:
        units: Results of one kind of units of all tasks; one or more.
        title: Above the picture.

    Raises:
        GraftworkError: If matplotlib is not installed.
    """
    losses = [Curve("", unit["unit"], _BLACK, unit["curves"]["loss"]) for unit in units]
    scores = [curve for unit in units for curve in curves_of(unit)]
    metrics = " and ".join(dict.fromkeys(metric_label(one["metric"]) for one in units[0]["tasks"].values()))
    if "sequence" in units[0]:
        return _two_panels(losses, scores, "tasks learnt", f"{metrics} on {units[0]['scored_on']}", title)
    return _two_panels(losses, scores, "epoch", f"{metrics} on dev", title)


def _two_panels(losses: Sequence[Curve], scores: Sequence[Curve], x: str, y: str, title: str) -> Any:
    """The losses, where there are any, and the scores beside them, with each name once in a legend below."""
    drawn = [(losses, "step", "loss")] if any(line.points for line in losses) else []
    figure, axes = panels(len(drawn) + 1, 5.5, 4.4, title)
    named: dict[str, Any] = {}
    for ax, (lines, across, up) in zip(axes, [*drawn, (scores, x, y)], strict=True):
        names = [line.name for line in lines]
        for line in filter(lambda line: line.points, lines):
            # a short training has few points, and one point is no line
            marker, width = "." if len(line.points) == 1 else None, 0.8 if names.count(line.name) > 1 else 1.8
            style = {"color": line.colour, "marker": marker, "linewidth": width, "label": line.name}
            (artist,) = ax.plot(*zip(*line.points, strict=True), **style)
            artist.set_gid(line.shown)
            if line.name:
                named.setdefault(line.name, artist)
            if line.best is not None:
                ax.plot(*line.points[line.best], "o", markersize=4, color=line.colour)
        ax.set(xlabel=across, ylabel=up)
        ax.grid(alpha=0.3)
        ax.xaxis.get_major_locator().set_params(integer=True)
    style = {"ncols": _NAMES * len(axes), "fontsize": "small", "frameon": False}
    legend = figure.legend(named.values(), named.keys(), loc="outside lower center", **style)
    for line in legend.get_lines():
        line.set_linewidth(2)
    return figure


def _in_order(units: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(units, key=lambda unit: KINDS.index(unit["kind"]))


def _read(points: Sequence[Sequence[float]], metric: str) -> list[tuple[float, float]]:
    """Points with their scores as they are read, in percent say."""
    return [(x, scale(metric)[0] * y) for x, y in points]


def _colour_among(name: str, names: Sequence[str]) -> str:
    """The colour of one of several methods or tasks: each has its own as long as there are enough."""
    return _OF_METHODS[list(names).index(name) % len(_OF_METHODS)]
