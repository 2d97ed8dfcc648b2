"""What a command prints of a run: its tables, where its files are, and what can be done with it."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from graftwork.report.comparison import comparison_tables
from graftwork.report.files import can_plot, state, write_report
from graftwork.report.gathered import Gathered, gather
from graftwork.report.table import print_text
from graftwork.report.tables import tables
from graftwork.tasks import kinds
from graftwork.training.answering.predicting import PREFERRED


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
    for table in [*comparison_tables(found.comparison), *tables(found.results, found.units)]:
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
