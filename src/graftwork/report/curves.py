"""Pictures of trainings: the loss by step and the score by epoch, one line for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.report.plots import new_figure
from graftwork.report.words import is_share, metric_label
from graftwork.training.results import KINDS

# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS = {
    "language": "#009E73",
    "knowledge": "#009E73",
    "head": "#999999",
    "full": "#000000",
    "adapter": "#0072B2",
    "average": "#56B4E9",
    "own": "#E69F00",
    "copies": "#CC79A7",
    "fusion": "#D55E00",
}


def curves(units: Sequence[Mapping[str, Any]], title: str) -> Any:
    """The trainings of one task: a line each, coloured by its kind; thin where a kind has several seeds.

    Args:
        units: Results of units.
        title: Above the picture.

    Raises:
        GraftworkError: If matplotlib is not installed.
    """
    figure = new_figure(11, 4.2)
    losses, scores = figure.subplots(1, 2)
    kinds = [unit["kind"] for unit in units]
    for unit in sorted(units, key=lambda u: KINDS.index(u["kind"])):
        kind = unit["kind"]
        style = {"color": COLOURS[kind], "linewidth": 0.8 if kinds.count(kind) > 1 else 1.8}
        factor = 100 if is_share(unit["metric"]) else 1
        score = [(epoch, factor * value) for epoch, value in unit["curves"]["score"]]
        # a short training has few points, and one point is no line
        _line(losses, unit["curves"]["loss"], label=kind, **style)
        _line(scores, score, label=kind, **style)
        scores.plot(*score[unit["best_epoch"] - 1], "o", markersize=4, color=style["color"])
    losses.set(xlabel="step", ylabel="loss")
    metrics = sorted({unit["metric"] for unit in units})
    scores.set(xlabel="epoch (the best one is dotted)", ylabel=f"{', '.join(map(metric_label, metrics))} on dev")
    for ax in (losses, scores):
        ax.grid(alpha=0.3)
        ax.xaxis.get_major_locator().set_params(integer=True)
    handles = dict(zip(*reversed(scores.get_legend_handles_labels()), strict=True))
    scores.legend(handles.values(), handles.keys(), fontsize="small")
    figure.suptitle(title, parse_math=False)
    return figure


def _line(ax: Any, points: Sequence[Sequence[float]], **style: Any) -> None:
    if points:
        ax.plot(*zip(*points, strict=True), marker="." if len(points) == 1 else None, **style)
