"""Scores by numbers of weights: what both pictures of a comparison share, and the one that is drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from graftwork.report.curves import colour, methods_in
from graftwork.report.svg import HEIGHT, WIDTH, ticks
from graftwork.report.words import column_label, is_share

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 12, 34
_CHARACTER, _LINE = 6.3, 13.0  # of a name, about
_DOT, _TRIES = 4.5, 8


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


def heights(points: Sequence[Point]) -> list[float]:
    """Round scores from below the lowest point to above the highest, with some room."""
    low, high = min(p.score - p.sd for p in points), max(p.score + p.sd for p in points)
    room = 0.1 * (high - low)
    return ticks([low - room, high + room])


class Label(NamedTuple):
    """Where a name is written: the place of its start, or of its end where it stands to the left."""

    x: float
    y: float
    left: bool


Box = tuple[float, float, float, float]  # left, right, top, bottom


def labels(places: Sequence[tuple[float, float]], names: Sequence[str], frame: Box) -> list[Label]:
    """Places for the names of points: beside them, in the frame, over no other name and no point as far as there is room.

    Args:
        places: Of the points, in pixels, downwards.
        names: What is written.
        frame: Where names may stand.
    """
    taken: list[Box] = [(x - _DOT, x + _DOT, y - _DOT, y + _DOT) for x, y in places]
    found: dict[int, Label] = {}
    for n in sorted(range(len(places)), key=lambda n: (places[n][1], n)):
        own = (*_candidates(places[n], names[n], frame),)
        box, label = min(own, key=lambda one: (_covered(one[0], taken), _off(one[1], places[n])))
        taken.append(box)
        found[n] = label
    return [found[n] for n in range(len(places))]


def _candidates(place: tuple[float, float], name: str, frame: Box) -> Iterator[tuple[Box, Label]]:
    """Places to the right and to the left of a point, a little or more above and below it, those in the frame first."""
    x, y = place
    long, gap, inside = _CHARACTER * len(name), _DOT + 3, False
    for left in (False, True):
        start = x - gap - long if left else x + gap
        if start < frame[0] or start + long > frame[1]:
            continue
        for n in range(-_TRIES, _TRIES + 1):
            low = y + n * _LINE / 2
            if frame[2] + _LINE / 2 <= low <= frame[3] - _LINE / 2:
                inside = True
                yield (
                    (start, start + long, low - _LINE / 2, low + _LINE / 2),
                    Label(x - gap if left else x + gap, low, left),
                )
    if not inside:  # a name longer than the picture
        yield (x + gap, x + gap + long, y - _LINE / 2, y + _LINE / 2), Label(x + gap, y, False)


def _covered(box: Box, taken: Sequence[Box]) -> float:
    """How much of a place others have."""
    found = 0.0
    for other in taken:
        wide = min(box[1], other[1]) - max(box[0], other[0])
        high = min(box[3], other[3]) - max(box[2], other[2])
        found += max(wide, 0.0) * max(high, 0.0)
    return found


def _off(label: Label, place: tuple[float, float]) -> tuple[float, bool]:
    """How far a name is from its point; of two as far the one to the right."""
    return abs(label.y - place[1]), label.left


def scatter(points: Sequence[Point], y: str) -> str:
    """The picture as SVG: the number of weights across, by powers of ten, and the score up.

    Args:
        points: What is drawn.
        y: What the score is.
    """
    if not points:
        return ""
    across = decades([p.weights for p in points])
    up = heights(points)

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
        begun = f'<text x="{right(count):.1f}" y="{HEIGHT - _BOTTOM + 14}" text-anchor="middle">'
        drawn.append(f"{begun}{count_label(count)}</text>")
    middle = (WIDTH + _LEFT) / 2
    drawn.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">trained weights a task</text>')
    places = [(right(p.weights), down(p.score)) for p in points]
    beside = labels(places, [p.name for p in points], (_LEFT, WIDTH, 0, HEIGHT - _BOTTOM))
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
