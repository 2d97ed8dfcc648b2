"""Scores by numbers of weights: what both pictures of a comparison share, and the one that is drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from graftwork.report.curves import colour, methods_in
from graftwork.report.svg import HEIGHT, WIDTH, ticks
from graftwork.report.words import column_label, is_share

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 12, 34
_CHARACTER, _LINE = 6.3, 13.0  # of a label, about


class Point(NamedTuple):
    """One line of a comparison.

    Attributes:
        name: Written beside it.
        colour: Of the point.
        weights: How many it trains.
        score: Its mean, as it is shown.
        sd: Over the seeds, as it is shown; 0 where there is one.
    """

    name: str
    colour: str
    weights: float
    score: float
    sd: float = 0.0


def points_of(rows: Sequence[Mapping[str, Any]], metric: str) -> list[Point]:
    """A point for each row of a comparison.

    Args:
        rows: Its rows.
        metric: That of their scores.
    """
    factor, methods = 100 if is_share(metric) else 1, methods_in(rows)
    return [
        Point(
            column_label(row["kind"], row.get("method", "")),
            colour(row, methods),
            row["weights_a_task"],
            factor * row["mean"],
            factor * (row["sd"] or 0.0),
        )
        for row in rows
    ]


def decades(counts: Sequence[float]) -> list[int]:
    """The powers of ten from below the least count to above the largest."""
    low, high = math.floor(math.log10(min(counts))), math.ceil(math.log10(max(counts)))
    return [10**power for power in range(low, max(high, low + 1) + 1)]


def count_label(count: float) -> str:
    """A power of ten in a few characters: ``100k``."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:g}{unit}"
    return f"{count:g}"


class Label(NamedTuple):
    """Where a name is written: the place of its start, or of its end where it stands to the left."""

    x: float
    y: float
    left: bool


def labels(places: Sequence[tuple[float, float]], names: Sequence[str], width: float, height: float) -> list[Label]:
    """Places for the names of points, beside them and none over another.

    Args:
        places: Of the points, in pixels, downwards.
        names: What is written.
        width: Of the picture: a name that would leave it stands to the left of its point.
        height: Of the picture: one that would leave it below goes up.
    """
    taken: list[tuple[float, float, float]] = []  # from, to, height
    found: dict[int, Label] = {}
    for n in sorted(range(len(places)), key=lambda n: (places[n][1], n)):
        x, y = places[n]
        long = _CHARACTER * len(names[n])
        left = x + 7 + long > width
        start = x - 7 - long if left else x + 7
        low = next(shifted for shifted in _shifts(y, height) if not _meets(taken, start, start + long, shifted))
        taken.append((start, start + long, low))
        found[n] = Label(x - 7 if left else x + 7, low, left)
    return [found[n] for n in range(len(places))]


def _shifts(y: float, height: float):  # type: ignore[no-untyped-def]
    """Heights near one, the nearest first, and without an end."""
    yield y
    for n in range(1, 200):
        if y + n * _LINE / 2 < height:
            yield y + n * _LINE / 2
        yield y - n * _LINE / 2


def _meets(taken: Sequence[tuple[float, float, float]], start: float, end: float, y: float) -> bool:
    return any(
        start < other_end and other_start < end and abs(y - low) < _LINE for other_start, other_end, low in taken
    )


def scatter(points: Sequence[Point], y: str) -> str:
    """The picture as SVG: the number of weights across, by powers of ten, and the score up.

    Args:
        points: What is drawn.
        y: What the score is.
    """
    if not points:
        return ""
    across = decades([p.weights for p in points])
    up = ticks([value for p in points for value in (p.score - p.sd, p.score + p.sd)])

    def right(weights: float) -> float:
        share = math.log10(weights / across[0]) / math.log10(across[-1] / across[0])
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def down(score: float) -> float:
        return HEIGHT - _BOTTOM - (score - up[0]) / (up[-1] - up[0]) * (HEIGHT - _TOP - _BOTTOM)

    title = escape(f"{y} by trained weights a task")
    drawn = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{title}">']
    for value in up:
        high = down(value)
        drawn.append(f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{high:.1f}" y2="{high:.1f}"/>')
        drawn.append(f'<text x="{_LEFT - 5}" y="{high + 4:.1f}" text-anchor="end">{value:g}</text>')
    for count in across:
        place = f'<text x="{right(count):.1f}" y="{HEIGHT - _BOTTOM + 14}" text-anchor="middle">'
        drawn.append(f"{place}{count_label(count)}</text>")
    middle = (WIDTH + _LEFT) / 2
    drawn.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">trained weights a task</text>')
    places = [(right(p.weights), down(p.score)) for p in points]
    beside = labels(places, [p.name for p in points], WIDTH, HEIGHT - _BOTTOM)
    for point, place, label in zip(points, places, beside, strict=True):
        drawn.append(_point(point, place, label, (down(point.score - point.sd), down(point.score + point.sd))))
    return "".join([*drawn, "</svg>"])


def _point(point: Point, place: tuple[float, float], label: Label, spread: tuple[float, float]) -> str:
    x, y = place
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{spread[0]:.1f}" y2="{spread[1]:.1f}" stroke="{point.colour}"/>'
    dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{point.colour}"/>'
    anchor = ' text-anchor="end"' if label.left else ""
    name = escape(point.name)
    text = f'<text x="{label.x:.1f}" y="{label.y + 4:.1f}"{anchor}>{name}</text>'
    told = f"{name}: {point.weights:,.0f} weights, {point.score:.3g}"
    return f"<g><title>{told}</title>{line if point.sd else ''}{dot}{text}</g>"
