"""The plot of a comparison: scores by the number of trained weights, a panel for each target and one for their mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graftwork.report.comparison import Scores
from graftwork.report.curves import colour, methods_in
from graftwork.report.formatting import column_label, is_share
from graftwork.report.plots import keep_text, panels

_WEIGHTS = "trained weights a task"
_GAP = 7.0  # typographic points between a data point and its name
_TRIES = 8  # half lines up and down


def comparison_plot(parts: Sequence[Scores]) -> Any:
    """A figure with a panel for each of the scores of one target or more."""
    y = parts[0].label if len(parts) == 1 else "score"
    figure, axes = panels(len(parts), 5.5, 3.6, f"{y} by {_WEIGHTS}")
    drawn = [_draw(ax, part) for ax, part in zip(axes, parts, strict=True)]
    keep_text(figure)
    figure.draw_without_rendering()  # lays everything out, so that free places for the names can be found
    for ax, points in zip(axes, drawn, strict=True):
        _place(figure, ax, points)
    return figure


def decades(counts: Sequence[float]) -> tuple[float, float]:
    """The powers of ten below the smallest count and above the largest."""
    low, high = math.floor(math.log10(min(counts))), math.ceil(math.log10(max(counts)))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _draw(ax: Any, part: Scores) -> list[tuple[Any, Any]]:
    """Draw a part; return each name, which is still at its point, with the point."""
    from matplotlib.ticker import EngFormatter

    factor, methods, names = 100 if is_share(part.metric) else 1, methods_in(part.rows), []
    for row in part.rows:
        name, x, y = column_label(row), row["weights_a_task"], factor * row["mean"]
        paint = colour(row, methods)
        if not x:  # the logarithm has no zero: a line across
            ax.axhline(y, color=paint, linestyle=":").set_gid(f"{name}: nothing trained, {y:.3g}")
            ax.annotate(name, (0.01, y), xycoords=ax.get_yaxis_transform(), va="bottom", fontsize="small")
            continue
        point = ax.errorbar(x, y, factor * (row["sd"] or 0) or None, fmt="o", markersize=6, color=paint)
        point.lines[0].set_gid(f"{name}: {x:,.0f} weights, {y:.3g}")
        named = ax.annotate(name, (x, y), (0, 0), textcoords="offset points", va="center", fontsize="small")
        named.set_in_layout(False)
        names.append((named, point.lines[0]))
    ax.set(
        xscale="log",
        xlim=decades([count for row in part.rows if (count := row["weights_a_task"])]),
        xlabel=_WEIGHTS,
        ylabel=part.label,
    )
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter("")  # by default formulas, where there is one power of ten
    ax.margins(y=0.15)
    ax.grid(alpha=0.3)
    ax.set_title(part.title, fontsize="medium")
    return names


def _place(figure: Any, ax: Any, drawn: Sequence[tuple[Any, Any]]) -> None:
    """Move names next to their points, where they cover no name and no point and are in the frame, if there is room."""
    unit = figure.dpi / 72
    gap = _GAP * unit
    boxes = [ax.get_window_extent().extents, *(point.get_window_extent().padded(gap / 3).extents for _, point in drawn)]

    def hidden(box: Any) -> float:
        """The area of a name that is outside the frame or on something else."""
        low, high = np.maximum(box[:2], np.array(boxes)[:, :2]), np.minimum(box[2:], np.array(boxes)[:, 2:])
        inside, *shared = np.prod(np.clip(high - low, 0, None), axis=1)
        return round(np.prod(box[2:] - box[:2]) - inside + sum(shared), 6)

    for name, _ in sorted(drawn, key=lambda one: -one[0].xy[1]):
        size = name.get_window_extent().padded(0, gap / 4)
        tried = [(size.translated(*move).extents, move) for move in _moves(size.width, size.height, gap)]
        box, (x, y) = min(tried, key=lambda one: hidden(one[0]))  # the first of those that are as good
        boxes.append(box)
        side, align = (-gap, "right") if x < 0 else (gap, "left")
        name.set(ha=align, position=(side / unit, y / unit))


def _moves(width: float, height: float, gap: float) -> Iterator[tuple[float, float]]:
    """The places for a name relative to its point, nearest first: right and left of it, a little above and below."""
    for step in sorted(range(-_TRIES, _TRIES + 1), key=abs):
        for across in (gap, -gap - width):
            yield across, step * height / 2
