"""Pictures of a run: where its fusions look. matplotlib is imported when one is drawn, and no window is opened."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from graftwork.errors import GraftworkError
from graftwork.report.attention import Attention
from graftwork.report.words import printable

_READABLE = 600  # cells with a number in them
_DPI = 120


def new_figure(width: float, height: float) -> Any:
    """A figure without a window; in inches, kept to what can be looked at.

    Raises:
        GraftworkError: If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise GraftworkError(f"plots need matplotlib ({error}): pip install graftwork[reports]") from error
    figure = Figure(figsize=(min(width, 40), min(height, 40)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any) -> bytes:
    """A figure as the bytes of a file; a text in it is a text, and no formula, whatever stands in it."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(printable(text.get_text(), keep="\n"))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def heat_map(attention: Attention) -> Any:
    """The picture of one target."""
    return heat_maps([attention])


def heat_maps(targets: Sequence[Attention]) -> Any:
    """All targets in one picture, on one scale of colours.

    Raises:
        GraftworkError: If matplotlib is not installed.
    """
    columns = min(len(targets), 4)
    lines = math.ceil(len(targets) / columns)
    rows = max(len(one.sites) for one in targets)
    widest = max(len(one.adapters) for one in targets)
    figure = new_figure(1.5 + columns * max(0.55 * widest + 1.4, 3.0), lines * max(0.32 * rows + 1.6, 3.0))
    axes = figure.subplots(lines, columns, squeeze=False).flat
    image = None
    for ax, one in zip(axes, targets, strict=False):
        image = _draw(ax, one)
    for ax in list(axes)[len(targets) :]:
        ax.set_visible(False)
    figure.suptitle("where the fusion of a target looks")
    figure.colorbar(image, ax=figure.axes, label="mean attention", shrink=0.8)
    return figure


def _draw(ax: Any, one: Attention) -> Any:
    image = ax.imshow(one.weights, cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    names = [f"{name} (own)" if n == one.own else name for n, name in enumerate(one.adapters)]
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(one.sites)), one.sites)
    if one.own is not None:
        from matplotlib.patches import Rectangle

        ax.get_xticklabels()[one.own].set_fontweight("bold")
        height = len(one.sites)
        ax.add_patch(Rectangle((one.own - 0.5, -0.5), 1, height, fill=False, edgecolor="red", linewidth=1.5))
    over = f" (mean of {one.seeds} seeds)" if one.seeds > 1 else ""
    ax.set_title(f"{one.title}{over}", fontsize="medium")
    ax.set_xlabel("adapter")
    ax.set_ylabel("layer")
    if one.weights.size <= _READABLE:
        for row, line in enumerate(one.weights):
            for column, value in enumerate(line):
                colour = "black" if value > 0.6 else "white"
                ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize="x-small")
    return image
