"""The report of a run as files in its folder."""

from __future__ import annotations

from pathlib import Path

from graftwork.checkpoint.folders import replace_file
from graftwork.report.gathered import Gathered, gather
from graftwork.report.tables import tables

MARKDOWN, TEXT, PLOTS = "results.md", "results.txt", "plots"


def write_report(run: str | Path) -> list[Path]:
    """Write the tables of a run into its folder, of what is done so far.

    Args:
        run: The folder.

    Returns:
        What was written.

    Raises:
        RecipeError: If the folder is none of a run.
    """
    found = gather(run)
    made = tables(found.results, found.units)
    parts = [f"# {found.run.resolve().name}\n", f"{state(found)}\n", *(table.markdown() for table in made)]
    text = "\n".join([f"{state(found)}\n", *(table.text() for table in made)])
    files = {MARKDOWN: "\n".join(parts).encode(), TEXT: text.encode()}
    for name, data in files.items():
        replace_file(found.run / name, data)
    return [found.run / name for name in files]


def state(found: Gathered) -> str:
    """How far a run is, in a sentence."""
    done, planned = len(found.results["units"]), len(found.units)
    return f"All {planned} trainings are done." if done == planned else f"{done} of {planned} trainings are done."
