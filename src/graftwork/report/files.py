"""The report of a run: files in its folder, and what a command prints."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console

from graftwork.checkpoint.folders import replace_file
from graftwork.inference.predictor import PREFERRED
from graftwork.report.comparison import comparison_tables
from graftwork.report.formatting import printable
from graftwork.report.labels import label_table
from graftwork.report.pictures import pictures
from graftwork.report.plots import can_plot, png
from graftwork.report.run_data import Gathered, gather
from graftwork.report.table import Table, as_markdown, print_table, print_text
from graftwork.report.tables import tables
from graftwork.report.verdict import verdicts
from graftwork.tasks import kinds

MARKDOWN, TEXT, PLOTS = "results.md", "results.txt", "plots"


def write_report(run: str | Path, *, plots: bool | None = None) -> list[Path]:
    """Write tables and plots of a run's results so far into its folder.

    Args:
        run: The folder.
        plots: Whether to draw plots; by default if matplotlib is installed.

    Returns:
        The files.

    Raises:
        RecipeError: If the folder is not a run's.
        GraftworkError: If plots are asked for and matplotlib is not installed; the tables are written nevertheless.
    """
    found = gather(run, evidence=True)
    _write_tables(found, [])
    written = []
    if can_plot() if plots is None else plots:
        for name, figure in _figures(found):
            path = found.run / PLOTS / f"{name}.png"
            replace_file(path, png(figure))
            written.append(path)
        _write_tables(found, written)
    return [found.run / MARKDOWN, found.run / TEXT, *written]


def state(found: Gathered) -> str:
    """How far a run is, in words."""
    done, planned = len(found.results["units"]), len(found.units)
    failed = [f"{one['unit']} failed ({one['why']})." for one in found.results.get("failed", [])]
    number = f"All {planned}" if done == planned else f"{done} of {planned}"
    return printable(" ".join([f"{number} trainings are done.", *failed]))


def _write_tables(found: Gathered, plots: list[Path]) -> None:
    made = _tables(found)
    links = [f"![{as_markdown(path.stem)}]({PLOTS}/{quote(path.name)})\n" for path in plots]
    words = [one.text() for one in verdicts(found)]
    head = [f"# {as_markdown(found.run.resolve().name)}\n", f"{as_markdown(state(found))}\n"]
    head += [f"{as_markdown(line.strip())}\n" for one in words for line in one.splitlines()]
    page = [*head, *(table.markdown() for table in made), *links]
    text = [
        f"{state(found)}\n",
        *(f"{printable(one, keep=chr(10))}\n" for one in words),
        *(table.text() for table in made),
    ]
    replace_file(found.run / MARKDOWN, "\n".join(page).encode())
    replace_file(found.run / TEXT, "\n".join(text).encode())


def _figures(found: Gathered) -> Iterator[tuple[str, Any]]:
    """The name and figure of every plot that has a file."""
    for picture in itertools.chain.from_iterable(pictures(found).values()):
        if picture.name:
            yield picture.name, picture.draw()


def print_all(run: Path, console: Console) -> None:
    """Write the report of a run that has ended, and print its tables, files, and the commands to type next."""
    written = write_report(run)  # before anything is printed: the reader of the output may be gone
    found = gather(run)
    print_tables(found, console)
    print_files(written, console)
    if not can_plot():
        print_text("no plots: pip install graftwork[reports], then graftwork show", console)
    print_next(found, console)


def print_tables(found: Gathered, console: Console) -> None:
    """Print the verdict and every table for a terminal or a pipe, and how far the run is."""
    for one in verdicts(found):
        print_text(one.text(), console)
    for table in _tables(found):
        print_table(table, console)
    print_text(state(found), console)


def print_files(written: Sequence[Path], console: Console) -> None:
    """Print the paths of files, a line for each folder."""
    for folder, paths in itertools.groupby(written, key=lambda path: path.parent):
        print_text(f"  {folder}: {', '.join(path.name for path in paths)}", console)


def print_next(found: Gathered, console: Console) -> None:
    """Print the commands to type next; the one to predict names the columns that a row needs."""
    run, tasks = shlex.quote(str(found.run)), [*found.recipe.targets, *found.recipe.tasks]
    lines = ["", "Next:", f"  graftwork show {run}"]
    if found.comparison is not None:
        lines.append(f"  graftwork report {run}")
    if tasks and any(unit.kind in PREFERRED and unit.task == tasks[0] for unit in found.units):
        spec = found.recipe.tasks[tasks[0]]
        columns = kinds[spec.kind].variant(spec).columns(spec, train=False)
        row = " ".join(f'"<{c}>"' if re.fullmatch(r"[\w -]+", c) else shlex.quote(f"<{c}>") for c in columns)
        lines.append(f"  graftwork predict {run} --task {shlex.quote(tasks[0])} {row}")
    print_text("\n".join(lines), console)


def _tables(found: Gathered) -> list[Table]:
    against = [one.table for one in verdicts(found) if one.table is not None]
    of_labels = [label_table(one, found.names(one["task"])) for one in found.known if one.get("confusion")]
    return [*against, *comparison_tables(found.comparison), *tables(found.results, found.units), *of_labels]
