"""A run as one page of HTML that needs no other file: the verdict, pictures, sortable tables, the recipe, the versions."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, PackageLoader

from graftwork.checkpoint.folders import replace_file
from graftwork.report.files import state
from graftwork.report.formatting import printable
from graftwork.report.picture import Picture
from graftwork.report.plots import can_plot, svg
from graftwork.report.run_data import Gathered, gather, without_texts
from graftwork.report.sections import sections
from graftwork.report.table import MISSING, Table
from graftwork.report.tokens import TokenAttention
from graftwork.report.verdict import summary, verdicts

PAGE = "report.html"
_UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_NUMBER = re.compile(r"([+-]?[\d,]*\.?\d+)(?: ± [\d.]+)?(?: (KB|MB|GB|TB))?\*?(?: of \d+)?(?: \[[^]]*\])?")


def write_page(run: str | Path, to: str | Path | None = None, *, texts: bool = True) -> Path:
    """Write the page of a run, with the results so far.

    Args:
        run: The run's folder.
        to: The file; by default ``report.html`` in that folder.
        texts: Whether texts of rows are on it: the tokens that a fusion looks at, and the rows whose answer changed.

    Returns:
        The file.

    Raises:
        RecipeError: If the folder is not a run's.
    """
    found = gather(run, evidence=True)
    if not texts:
        found = without_texts(found)
    path = found.run / PAGE if to is None else Path(to)
    replace_file(path, page(found).encode("utf-8", "backslashreplace"))
    return path


def page(found: Gathered) -> str:
    """The page as text; without plots if matplotlib is not installed."""
    pages = Environment(
        loader=PackageLoader("graftwork", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    pages.tests |= {
        "missing": lambda cell: MISSING in cell,
        "a_table": lambda block: isinstance(block, Table),
        "a_picture": lambda block: isinstance(block, Picture),
        "of_tokens": lambda block: isinstance(block, TokenAttention),
    }
    pages.filters["printable"] = printable
    judged = verdicts(found)
    return pages.get_template("templates/page.html").render(
        title=printable(found.run.resolve().name),
        state=state(found),
        can_plot=can_plot(),
        verdicts=judged,
        summary=summary(judged),
        sections=[*sections(found)],
        draw=_drawn,
        about=_about(found),
        sort_key=sort_key,
    )


def _drawn(picture: Picture) -> tuple[str, str]:
    """A picture as SVG and its width in pixels; empty without matplotlib."""
    if not can_plot():
        return "", ""
    drawn = svg(picture.draw())
    return drawn, drawn.partition('width="')[2].partition('"')[0]


def _about(found: Gathered) -> str:
    """What was trained, in a line."""
    recipe = found.recipe
    parts = [f"base {recipe.base.model}"]
    if recipe.targets:
        parts.append(f"target{'s' if len(recipe.targets) > 1 else ''} {', '.join(recipe.targets)}")
    parts.append(f"{len(recipe.seeds)} seed{'s' if len(recipe.seeds) > 1 else ''}")
    return printable(" · ".join(parts))


def sort_key(text: str) -> str:
    """The key that a cell is sorted by: its number, of a size the bytes, else its text; empty if it is not done yet."""
    number = _NUMBER.fullmatch(text)
    if number is None:
        return "" if MISSING in text else text
    value = float(number[1].replace(",", "")) * _UNITS.get(number[2], 1)
    return f"{value:.12g}"
