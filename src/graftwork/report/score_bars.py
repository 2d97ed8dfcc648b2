"""The picture of a target's scores: a bar for each kind of training, a dot for each seed, and an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.experiments.comparing.compare import line_of
from graftwork.report.curves import colour, methods_in
from graftwork.report.formatting import is_share, line_label, metric_label, printable, scale
from graftwork.report.plots import BLACK, panels


def score_bars(rows: Sequence[Mapping[str, Any]], metric: str, evidence: Mapping[str, Any] | None, title: str) -> Any:
    """A figure of one target.

    Args:
        rows: Its rows of the results.
        metric: Their metric.
        evidence: What the predictions say of it, with an interval for each row; else there are bars and dots.
        title: The label of the figure.
    """
    methods = methods_in(rows)
    known = {} if evidence is None else {one["line"]: one for one in evidence["lines"]}
    figure, (ax,) = panels(1, 5.5, 0.34 * len(rows) + 0.9, title)
    factor, least = scale(metric)[0], []
    for y, row in enumerate(rows):
        mean, seeds = factor * row["mean"], [factor * one for one in row["scores"]]
        (bar,) = ax.barh(y, mean, height=0.62, color=colour(row, methods), alpha=0.45)
        bar.set_gid(f"{line_label(row)}: {mean:.4g}")
        one = known.get(line_of(row))
        ends = [factor * one[end] for end in ("low", "high")] if one and one["low"] is not None else []
        if ends:
            ax.plot(ends, [y, y], color=BLACK, linewidth=1.4, marker="|", markersize=7)
        apart = (
            [y + 0.09 * (n - (len(seeds) - 1) / 2) for n in range(len(seeds))] if len(seeds) < 6 else [y] * len(seeds)
        )
        ax.plot(
            seeds, apart, "o", markersize=4.5, color=colour(row, methods), markeredgecolor=BLACK, markeredgewidth=0.6
        )
        least += [mean, *seeds, *ends]
    low, high = min(least), max(least)
    margin = 0.12 * (high - low) or 1.0
    # bars of shares begin near the lowest score, which the axis says: from 0 all look alike
    ax.set_xlim(
        max(low - 2 * margin, 0.0) if low >= 0 else low - margin,
        min(high + margin, 100) if is_share(metric) else high + margin,
    )
    ax.set_yticks(range(len(rows)), [printable(line_label(row)) for row in rows])
    ax.invert_yaxis()
    ax.set_xlabel(metric_label(metric))
    ax.grid(axis="x", alpha=0.3)
    return figure


def bars_caption(evidence: Mapping[str, Any] | None) -> str:
    """How to read the picture."""
    text = "A bar is the mean, a dot a seed"
    if evidence is not None:
        text += f", a line the 95 % interval of the mean over draws of the {evidence['rows_scored']:,} rows"
    return f"{text}. The axis does not begin at 0."
