"""The report of a run: as files in its folder, and printed by a command with what can be done next."""

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
from graftwork.report.pictures import pictures
from graftwork.report.plots import can_plot, png
from graftwork.report.run_data import Gathered, gather
from graftwork.report.table import Table, as_markdown, print_text
from graftwork.report.tables import tables
from graftwork.tasks import kinds

MARKDOWN, TEXT, PLOTS = "results.md", "results.txt", "plots"


def write_report(run: str | Path, *, plots: bool | None = None) -> list[Path]:
    """Write tables and plots of a run into its folder, of what is done so far.

    Args:
        run: The folder.
        plots: Whether to draw; by default where matplotlib is installed.

    Returns:
        What was written.

    Raises:
        RecipeError: If the folder is none of a run.
        GraftworkError: If plots are asked for and matplotlib is not installed; the tables are written all the same.
    """
    found = gather(run)
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
    """How far a run is, in a sentence."""
    done, planned = len(found.results["units"]), len(found.units)
    failed = [f"{one['unit']} failed ({one['why']})" for one in found.results.get("failed", [])]
    said = f"All {planned} trainings are done." if done == planned else f"{done} of {planned} trainings are done."
    return printable(" ".join([said, *(f"{one}." for one in failed)]))


def _write_tables(found: Gathered, plots: list[Path]) -> None:
    made = _tables(found)
    links = [f"![{as_markdown(path.stem)}]({PLOTS}/{quote(path.name)})\n" for path in plots]
    title, said = as_markdown(found.run.resolve().name), as_markdown(state(found))
    page = [f"# {title}\n", f"{said}\n", *(table.markdown() for table in made), *links]
    text = [f"{state(found)}\n", *(table.text() for table in made)]
    replace_file(found.run / MARKDOWN, "\n".join(page).encode())
    replace_file(found.run / TEXT, "\n".join(text).encode())


def _figures(found: Gathered) -> Iterator[tuple[str, Any]]:
    """Every picture that has a file, with its name."""
    for picture in itertools.chain.from_iterable(pictures(found).values()):
        if picture.name:
            yield picture.name, picture.draw()


def print_all(run: Path, console: Console) -> None:
    """Write the report of a run that has ended, and print its tables, its files, and what can be done with it."""
    written = write_report(run)  # before anything is printed: who reads the output may be gone
    found = gather(run)
    print_tables(found, console)
    print_files(written, console)
    if not can_plot():
        print_text("no plots: pip install graftwork[reports], then graftwork show", console)
    print_next(found, console)


def print_tables(found: Gathered, console: Console) -> None:
    """Print every table, for a terminal or for a pipe, and how far the run is."""
    for table in _tables(found):
        if console.is_terminal:
            console.print()
            console.print(table.rich())
        else:
            print_text(table.text(), console)
    print_text(state(found), console)


def print_files(written: Sequence[Path], console: Console) -> None:
    """Print where files are, those of a folder on one line."""
    for folder, paths in itertools.groupby(written, key=lambda path: path.parent):
        print_text(f"  {folder}: {', '.join(path.name for path in paths)}", console)


def print_next(found: Gathered, console: Console) -> None:
    """Print what to type next; a question names the columns that a row of the task has to have."""
    run, tasks = shlex.quote(str(found.run)), [*found.recipe.targets, *found.recipe.tasks]
    lines = ["", "Next:", f"  graftwork show {run}"]
    if found.comparison is not None:
        lines.append(f"  graftwork report {run}")
    if tasks and any(unit.kind in PREFERRED and unit.task == tasks[0] for unit in found.units):
        spec = found.recipe.tasks[tasks[0]]
        columns = kinds[spec.kind].columns(spec, train=False)
        asked = " ".join(f'"<{c}>"' if re.fullmatch(r"[\w -]+", c) else shlex.quote(f"<{c}>") for c in columns)
        lines.append(f"  graftwork predict {run} --task {shlex.quote(tasks[0])} {asked}")
    print_text("\n".join(lines), console)


def _tables(found: Gathered) -> list[Table]:
    return [*comparison_tables(found.comparison), *tables(found.results, found.units)]
