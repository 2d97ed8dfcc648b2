"""A run as one page of HTML that needs no other file: sortable tables, plots, the recipe, the versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from graftwork.checkpoint.folders import replace_file
from graftwork.experiments.running.folder import RECIPE
from graftwork.experiments.running.records import read_record
from graftwork.report.comparison import costs_tables, parts
from graftwork.report.files import state
from graftwork.report.formatting import printable
from graftwork.report.pictures import Picture, picture_of_part, pictures
from graftwork.report.plots import can_plot, svg
from graftwork.report.run_data import Gathered, gather
from graftwork.report.table import MISSING, Table
from graftwork.report.tables import tables

PAGE = "report.html"
_UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_NUMBER = re.compile(r"([+-]?[\d,]*\.?\d+)(?: ± [\d.]+)?(?: (KB|MB|GB|TB))?\*?(?: of \d+)?(?: \[[^]]*\])?")
_IN_ORDER = ("forgetting", "attention", "of_each_task", "of_all_tasks")  # plots after the tables
_PACKAGES = ("graftwork", "torch", "transformers", "accelerate", "safetensors")


def write_page(run: str | Path, to: str | Path | None = None) -> Path:
    """Write the page of a run, with the results so far.

    Args:
        run: The run's folder.
        to: The file; by default ``report.html`` in that folder.

    Returns:
        The file.

    Raises:
        RecipeError: If the folder is not a run's.
    """
    found = gather(run)
    path = found.run / PAGE if to is None else Path(to)
    replace_file(path, page(found).encode("utf-8", "backslashreplace"))
    return path


def page(found: Gathered) -> str:
    """The page as text; without plots if matplotlib is not installed."""
    pages = Environment(
        loader=PackageLoader("graftwork", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    pages.tests["missing"] = lambda cell: MISSING in cell
    return pages.get_template("templates/page.html").render(
        title=printable(found.run.resolve().name),
        state=state(found),
        drawn=can_plot(),
        sections=_sections(found),
        sort_key=sort_key,
    )


def _sections(found: Gathered) -> Iterator[dict[str, Any]]:
    """The sections of the page, in order."""
    compared = [] if found.comparison is None else parts(found.comparison)
    for part in compared:
        scores, apart = part.tables
        yield _section(scores.title, scores, picture_of_part(part))
        yield _section(apart.title, apart)
    costs = [] if found.comparison is None else costs_tables(found.comparison)
    for table in [*costs, *tables(found.results, found.units)]:
        yield _section(table.title, table)
    shown = pictures(found)
    for one in itertools.chain.from_iterable(shown[what] for what in _IN_ORDER):
        if one.title and (can_plot() or one.table is not None):
            yield _section(one.title, None, one)
    recipe = read_record(found.run / RECIPE, Any)
    yield _section("Recipe", text=printable(json.dumps(recipe, indent=1, ensure_ascii=False), keep="\n"))
    yield _section("Versions of what wrote this page", text=versions())


def _section(title: str, table: Table | None = None, picture: Picture | None = None, text: str = "") -> dict[str, Any]:
    drawn = svg(picture.draw()) if picture is not None and can_plot() else ""
    return {"title": title, "table": table, "picture": picture, "drawn": drawn, "text": text}


def versions() -> str:
    """The versions of Python and the main packages, a line each."""
    lines = [f"python {platform.python_version()}"]
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            lines.append(f"{package} {importlib.metadata.version(package)}")
    return "\n".join(lines)


def sort_key(text: str) -> str:
    """The key that a cell is sorted by: its number, of a size the bytes, else its text; empty if it is not done yet."""
    number = _NUMBER.fullmatch(text)
    if number is None:
        return "" if MISSING in text else text
    value = float(number[1].replace(",", "")) * _UNITS.get(number[2], 1)
    return f"{value:.12g}"
