"""The picture of a comparison: score by the number of trained weights, a panel for each target and one for their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from graftwork.report.comparison import Part, parts
from graftwork.report.plots import new_figure
from graftwork.report.scatter import count_label, decades, heights, labels, points_of

_COLUMNS = 3
_WIDTH, _HEIGHT = 4.4, 3.4  # inches of a panel
_INNER = (300.0, 190.0)  # and in it what points lie in, in the pixels of `labels`, about


def comparison_plot(comparison: Mapping[str, Any]) -> Any:
    """Draw it.

    Args:
        comparison: What ``comparison.json`` says.

    Raises:
        GraftworkError: If matplotlib is not installed.
    """
    found = parts(comparison)
    columns = min(len(found), _COLUMNS)
    lines = math.ceil(len(found) / columns)
    figure = new_figure(columns * _WIDTH, lines * _HEIGHT + 0.4)
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for ax, part in zip(axes, found, strict=False):
        _draw(ax, part)
    for ax in axes[len(found) :]:
        ax.set_visible(False)
    figure.suptitle("score by trained weights a task")
    return figure


def _draw(ax: Any, part: Part) -> None:
    points = points_of(part.rows, part.metric)
    across = decades([p.weights for p in points])
    up = heights(points)
    ax.set(xscale="log", xlim=(across[0], across[-1]), ylim=(up[0], up[-1]), ylabel=part.label)
    ax.set_xticks(across, [count_label(count) for count in across])
    ax.xaxis.set_minor_formatter("")  # by default formulas, where there is one power of ten
    ax.grid(alpha=0.3)
    ax.set_title(part.title, fontsize="medium")
    wide, high = _INNER
    places = [
        (
            wide * math.log(p.weights / across[0]) / math.log(across[-1] / across[0]),
            high * (1 - (p.score - up[0]) / (up[-1] - up[0])),
        )
        for p in points
    ]
    for point, place, label in zip(
        points, places, labels(places, [p.name for p in points], (0, wide, 0, high)), strict=True
    ):
        ax.errorbar(point.weights, point.score, point.sd or None, fmt="o", markersize=6, color=point.colour)
        ax.annotate(
            point.name,
            (point.weights, point.score),
            xytext=(label.x - place[0], place[1] - label.y),
            textcoords="offset points",
            ha="right" if label.left else "left",
            va="center",
            fontsize="small",
        )
