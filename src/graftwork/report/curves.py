"""Plots of trainings: the loss by step, and the scores by epoch or by the number of tasks learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from graftwork.experiments.kinds import KINDS, UNIT_KINDS
from graftwork.report.formatting import column_label, metric_label, scale
from graftwork.report.plots import BLACK, panels

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_GREY, _BLUE, _SKY, _GREEN, _YELLOW, _ORANGE, _RED, _PURPLE = (
    "#999999 #0072B2 #56B4E9 #009E73 #F0E442 #E69F00 #D55E00 #CC79A7".split()
)
# Similar kinds share a colour: the names tell their lines apart.
_OF_KINDS = {
    **dict.fromkeys(("full", "trunk", "intermediate_full", "sequential", "multitask", "tuned"), BLACK),
    **dict.fromkeys(("adapter", "longer", "intermediate", "mt_shared", "new_task", "sequential_adapters"), _BLUE),
    **dict.fromkeys(("language", "knowledge", "mt_joint"), _GREEN),
    **dict.fromkeys(("zero_shot", "few_shot", "head"), _GREY),
    **dict.fromkeys(("average", "merge"), _SKY),
    "own": _ORANGE,
    "copies": _PURPLE,
    "scalearn": _YELLOW,
    **dict.fromkeys(("fusion", "fusion_mt", "route", "arrow"), _RED),
}
OF_NAMES = (_GREEN, _PURPLE, _ORANGE, _SKY, _YELLOW, _RED)
_NAMES = 2  # names of a legend on one line below a panel


class Curve(NamedTuple):
    """One line of a plot.

    Attributes:
        name: Its name in the legend; empty for none.
        shown: The text that a page shows when the pointer is on the line.
        colour: Its colour.
        points: Pairs of a step, epoch or number of tasks, and a loss or a score.
        best: The index of the best epoch, if one was chosen.
    """

    name: str
    shown: str
    colour: str
    points: Sequence[Sequence[float]]
    best: int | None = None


def colour(unit: Mapping[str, Any], methods: Sequence[str] = ()) -> str:
    """The colour of a unit or a row of the results, by its kind, or by its method among those that are shown."""
    if not unit.get("method"):
        return _OF_KINDS[unit["kind"]]
    return _colour_among(unit["method"], methods) if unit["method"] in methods else _GREEN


def methods_in(units: Sequence[Mapping[str, Any]]) -> list[str]:
    """The distinct methods of some units."""
    return list(dict.fromkeys(unit["method"] for unit in units if "method" in unit))


def kinds_of_all(units: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The units that train on all tasks by the name of their folder, in the order of the kinds."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for unit in _in_order(units):
        if UNIT_KINDS[unit["kind"]].of_all:
            label = f"{unit['kind']}-{unit['method']}" if unit.get("method") else unit["kind"]
            found.setdefault(label, []).append(unit)
    return found


def curves(units: Sequence[Mapping[str, Any]], title: str) -> Any:
    """A figure of the trainings of one task: a line each, coloured by its kind; thin if the kind has several seeds."""
    losses, scores, methods = [], [], methods_in(units)
    for unit in _in_order(units):
        line = column_label(unit), unit["unit"], colour(unit, methods)
        losses.append(Curve(*line, unit["curves"]["loss"]))
        scores.append(Curve(*line, _scaled(unit["curves"]["score"], unit["metric"]), unit["best_epoch"] - 1))
    metrics = ", ".join(sorted({metric_label(unit["metric"]) for unit in units}))
    return _two_panels(losses, scores, "epoch (the best one is dotted)", f"{metrics} on dev", title)


def curves_of(unit: Mapping[str, Any]) -> list[Curve]:
    """The curves of a unit that trains on all tasks: one a task, and their mean if the best epoch was chosen by it."""
    metrics = {task: one["metric"] for task, one in unit["tasks"].items()}

    def curve(task: str, points: Sequence[Sequence[float]], best: int | None = None) -> Curve:
        paint = _colour_among(task, list(metrics))
        return Curve(task, f"{task}, seed {unit['seed']}", paint, _scaled(points, metrics[task]), best)

    if "sequence" in unit:
        order, rows = unit["sequence"]["order"], unit["sequence"]["scores"]
        return [
            curve(task, [(step + 1, row[j]) for step, row in enumerate(rows) if j < len(row)])
            for j, task in enumerate(order)
        ]
    best = unit["best_epoch"] - 1
    found = [curve(task, points, best) for task, points in unit["curves"]["tasks"].items()]
    if len(set(map(scale, metrics.values()))) > 1:  # a mean of percentages and other scores has no scale
        return found
    mean = _scaled(unit["curves"]["score"], unit["metric"])
    return [*found, Curve("mean", f"mean, seed {unit['seed']}", BLACK, mean, best)]


def by_task_figure(units: Sequence[Mapping[str, Any]], title: str) -> Any:
    """A figure of one kind of training on all tasks: a line for each task and seed."""
    losses = [Curve("", unit["unit"], BLACK, unit["curves"]["loss"]) for unit in units]
    scores = [curve for unit in units for curve in curves_of(unit)]
    metrics = " and ".join(dict.fromkeys(metric_label(one["metric"]) for one in units[0]["tasks"].values()))
    x, split = ("tasks learnt", units[0]["scored_on"]) if "sequence" in units[0] else ("epoch", "dev")
    return _two_panels(losses, scores, x, f"{metrics} on {split}", title)


def _two_panels(losses: Sequence[Curve], scores: Sequence[Curve], x: str, y: str, title: str) -> Any:
    """A figure of the losses, if there are any, and the scores, with each name once in a legend below."""
    drawn = [(scores, x, y)]
    if any(line.points for line in losses):
        drawn.insert(0, (losses, "step", "loss"))
    figure, axes = panels(len(drawn), 5.5, 4.4, title)
    named: dict[str, Any] = {}
    for ax, (lines, across, up) in zip(axes, drawn, strict=True):
        names = [line.name for line in lines]
        for line in filter(lambda line: line.points, lines):
            # a single point needs a marker: there is no line through it
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


def _scaled(points: Sequence[Sequence[float]], metric: str) -> list[tuple[float, float]]:
    """Points with their scores as they are shown, such as in percent."""
    return [(x, scale(metric)[0] * y) for x, y in points]


def _colour_among(name: str, names: Sequence[str]) -> str:
    """The colour of one of several methods or tasks: each has its own as far as the colours go."""
    return OF_NAMES[list(names).index(name) % len(OF_NAMES)]
