"""Pictures of trainings: the loss by step and the score by epoch, one line for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.report.plots import new_figure
from graftwork.report.words import is_share, metric_label
from graftwork.training.planning.kinds import KINDS

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


def colour(unit: Mapping[str, Any], methods: Sequence[str] = ()) -> str:
    """The colour of a unit, or of a row of the results.

    Args:
        unit: With its ``kind``, and its ``method`` where it is one of several.
        methods: All methods that are shown; each has a colour of its own as long as there are enough.
    """
    if not unit.get("method"):
        return _OF_KINDS[unit["kind"]]
    return colour_among(unit["method"], methods) if unit["method"] in methods else _GREEN


def colour_among(name: str, names: Sequence[str]) -> str:
    """The colour of one of several methods or tasks: each has its own as long as there are enough."""
    return _OF_METHODS[list(names).index(name) % len(_OF_METHODS)]


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
    kinds = [label_of(unit) for unit in units]
    methods = methods_in(units)
    for unit in sorted(units, key=lambda u: KINDS.index(u["kind"])):
        kind = label_of(unit)
        style = {"color": colour(unit, methods), "linewidth": 0.8 if kinds.count(kind) > 1 else 1.8}
        factor = 100 if is_share(unit["metric"]) else 1
        score = [(epoch, factor * value) for epoch, value in unit["curves"]["score"]]
        # a short training has few points, and one point is no line
        _line(losses, unit["curves"]["loss"], label=kind, **style)
        _line(scores, score, label=kind, **style)
        scores.plot(*score[unit["best_epoch"] - 1], "o", markersize=4, color=style["color"])
    losses.set(xlabel="step", ylabel="loss")
    metrics = sorted({unit["metric"] for unit in units})
    scores.set(xlabel="epoch (the best one is dotted)", ylabel=f"{', '.join(map(metric_label, metrics))} on dev")
    finish(figure, losses, scores, title)
    return figure


def finish(figure: Any, losses: Any, scores: Any, title: str) -> None:
    """What two panels of curves have beside their lines: grids, whole steps, and each name once in a legend."""
    for ax in (losses, scores):
        ax.grid(alpha=0.3)
        ax.xaxis.get_major_locator().set_params(integer=True)
    handles = dict(zip(*reversed(scores.get_legend_handles_labels()), strict=True))
    scores.legend(handles.values(), handles.keys(), fontsize="small")
    figure.suptitle(title)


def label_of(unit: Mapping[str, Any]) -> str:
    """What a line is called: the kind, or the method."""
    return str(unit.get("method") or unit["kind"])


def methods_in(units: Sequence[Mapping[str, Any]]) -> list[str]:
    """The methods of some units, each once."""
    return list(dict.fromkeys(unit["method"] for unit in units if "method" in unit))


def _line(ax: Any, points: Sequence[Sequence[float]], **style: Any) -> None:
    if points:
        ax.plot(*zip(*points, strict=True), marker="." if len(points) == 1 else None, **style)
