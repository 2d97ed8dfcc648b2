"""Line charts as SVG, drawn without a plotting library so that a page holds them in a few kilobytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 440, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 8, 34


class Line(NamedTuple):
    """One line of a chart.

    Attributes:
        name: Is shown where the pointer rests on it.
        colour: Of the line.
        points: Of x and y, in order.
        marked: The place of a point that is dotted, if one is.
    """

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    marked: int | None = None


def chart(lines: Sequence[Line], x: str, y: str) -> str:
    """A chart of some lines.

    Args:
        lines: What is drawn; points that are not finite are left out.
        x: What the horizontal axis is.
        y: What the vertical one is.
    """
    points = [p for line in lines for p in line.points if math.isfinite(p[1])]
    if not points:
        return ""
    across, up = ticks([p[0] for p in points]), ticks([p[1] for p in points])

    def at(point: tuple[float, float]) -> tuple[float, float]:
        inner = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
        shares = [(v - t[0]) / (t[-1] - t[0]) for v, t in zip(point, (across, up), strict=True)]
        return _LEFT + shares[0] * inner[0], HEIGHT - _BOTTOM - shares[1] * inner[1]

    drawn = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{escape(f"{y} by {x}")}">']
    for value in up:
        height = at((across[0], value))[1]
        drawn.append(f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>')
        drawn.append(f'<text x="{_LEFT - 5}" y="{height + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in across:
        place = at((value, up[0]))[0]
        drawn.append(f'<text x="{place:.1f}" y="{HEIGHT - _BOTTOM + 14}" text-anchor="middle">{value:g}</text>')
    drawn.append(f'<text x="{(WIDTH + _LEFT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x)}</text>')
    drawn += [_line(line, at) for line in lines]
    return "".join([*drawn, "</svg>"])


def _line(line: Line, at) -> str:  # type: ignore[no-untyped-def]
    places = [at(p) for p in line.points if math.isfinite(p[1])]
    joined = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
    parts = [f'<polyline points="{joined}" fill="none" stroke="{line.colour}" stroke-width="1.5"/>']
    dotted = places if len(places) == 1 else []
    if line.marked is not None and math.isfinite(line.points[line.marked][1]):
        dotted = [at(line.points[line.marked])]
    parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{line.colour}"/>' for px, py in dotted]
    return f"<g><title>{escape(line.name)}</title>{''.join(parts)}</g>"


def ticks(values: Sequence[float], wanted: int = 5) -> list[float]:
    """Round numbers from below the lowest value to above the highest, about as many as are wanted.

    Args:
        values: One or more.
        wanted: How many steps there are, about.
    """
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]
