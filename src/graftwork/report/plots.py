"""Drawing with matplotlib, which is imported when the first plot is drawn; no window is opened."""

from __future__ import annotations

import importlib.util
import io
import math
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from graftwork.errors import GraftworkError
from graftwork.report.formatting import printable

_READABLE = 600  # the most cells that have a number in them
_DPI = 120
_SMALLEST = 0.7  # of its width, on a small screen; a wider figure scrolls
_PIXELS = 80  # of a page for an inch, so that text is as large as the page's small print
# Text stays text, in one font; and drawing a figure again gives the same file.
_ON_A_PAGE = {"svg.fonttype": "none", "svg.hashsalt": "graftwork", "font.sans-serif": ["DejaVu Sans"]}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_GROUP = re.compile(r'<g id="(?:shown-(\d+)|[^"]*)">')
_DARK = "#1a1a1a"  # not black, which a page in dark colours turns white
BLACK = "#010101"  # matplotlib writes no colour where it is #000000


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def panels(
    number: int, width: float, height: float, title: str, *, columns: int = 3, margin: float = 0.0
) -> tuple[Any, list[Any]]:
    """A figure of some panels, of a limited size, and the axes of each panel.

    Args:
        number: The number of panels.
        width: The width of each, in inches.
        height: The height of each, in inches.
        title: The title above them; on a page, the label of the plot.
        columns: The most panels in a row.
        margin: Inches that are added to the figure's width and height.

    Raises:
        GraftworkError: If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise GraftworkError(f"plots need matplotlib ({error}): pip install graftwork[reports]") from error
    columns = min(number, columns)
    lines = math.ceil(number / columns)
    size = min(columns * width + margin, 40), min(lines * height + margin, 40)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure, [figure.add_subplot(lines, columns, n + 1) for n in range(number)]


def heat(
    ax: Any, values: Any, texts: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str], **colours: Any
) -> Any:
    """Draw a matrix as colours with a text in each cell, if they are not too many; return the image for a colour bar.

    ``rows`` and ``columns`` are the labels, ``colours`` is the colormap and its limits as ``imshow`` takes them.
    """
    image = ax.imshow(values, aspect="auto", interpolation="nearest", **colours)
    # printable here already: the axes make their labels anew whenever they are drawn
    rows, columns = [*map(printable, rows)], [*map(printable, columns)]
    ax.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), rows)
    light = image.to_rgba(values)[..., :3] @ (0.299, 0.587, 0.114) > 0.5
    for (row, column), text in np.ndenumerate(np.array(texts)) if light.size <= _READABLE else ():
        if text:
            ink = _DARK if light[row, column] else "white"
            ax.text(column, row, text, ha="center", va="center", color=ink, fontsize="small")
    return image


def png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG file."""
    keep_text(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def svg(figure: Any) -> str:
    """A figure as an SVG element, with its title as the label for screen readers.

    The ``gid`` of an artist is shown when the pointer is on it.
    """
    import matplotlib

    keep_text(figure)
    named, shown = figure.findobj(lambda artist: artist.get_gid() is not None), []
    for n, artist in enumerate(named):  # replaced by a number, so that no name from a file is in an attribute
        shown.append(escape(printable(artist.get_gid())))
        artist.set_gid(f"shown-{n}")
    label, (width, height) = escape(figure.get_suptitle()), figure.get_size_inches()
    figure.suptitle("")
    file = io.StringIO()
    with matplotlib.rc_context(_ON_A_PAGE):
        figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    body = file.getvalue()
    body = _GROUP.sub(
        lambda found: f"<g><title>{shown[int(found[1])]}</title>" if found[1] else "<g>", body[body.index("<g ") :]
    )
    pixels = _PIXELS * width
    size = f'viewBox="0 0 {72 * width:g} {72 * height:g}" width="{pixels:.0f}" style="min-width:{_SMALLEST * pixels:.0f}px"'
    body = body.replace(BLACK, "currentColor").replace("#000000", "currentColor")  # black on white, white on black
    return f'<svg {size} role="img" aria-label="{label}">\n{body}'


def keep_text(figure: Any) -> None:
    """Make every text of a figure printable, and none a formula, whatever is in it."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(printable(text.get_text(), keep="\n"))
