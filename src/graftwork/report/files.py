"""The report of a run as files in its folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from graftwork.checkpoint.folders import replace_file
from graftwork.report.attention import attentions
from graftwork.report.by_task import by_task_figure, kinds_of_all
from graftwork.report.comparison import comparison_tables
from graftwork.report.comparison_plot import comparison_plot
from graftwork.report.curves import curves
from graftwork.report.gathered import Gathered, gather
from graftwork.report.matrix_pictures import forgetting_figure
from graftwork.report.plots import heat_map, heat_maps, png
from graftwork.report.sequences import matrices
from graftwork.report.table import as_markdown
from graftwork.report.tables import tables
from graftwork.report.words import kind_label, printable
from graftwork.training.planning.kinds import UNIT_KINDS

MARKDOWN, TEXT, PLOTS = "results.md", "results.txt", "plots"


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


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
    made = [*comparison_tables(found.comparison), *tables(found.results, found.units)]
    links = [f"![{as_markdown(path.stem)}]({PLOTS}/{quote(path.name)})\n" for path in plots]
    title, said = as_markdown(found.run.resolve().name), as_markdown(state(found))
    page = [f"# {title}\n", f"{said}\n", *(table.markdown() for table in made), *links]
    text = [f"{state(found)}\n", *(table.text() for table in made)]
    replace_file(found.run / MARKDOWN, "\n".join(page).encode())
    replace_file(found.run / TEXT, "\n".join(text).encode())


def _figures(found: Gathered) -> Iterator[tuple[str, Any]]:
    """Every picture that something is known for, with its name."""
    results, targets = found.results, found.recipe.targets
    if found.comparison is not None:
        yield "comparison", comparison_plot(found.comparison)
    looks = attentions(results, targets)
    for name in dict.fromkeys(one.name for one in looks):
        seen = [one for one in looks if one.name == name]
        for one in seen:
            yield f"{name}-{one.target}", heat_map(one)
        if len(seen) > 1:
            yield name, heat_maps(seen)
    sequences = matrices(results)
    for matrix in sequences:
        yield f"forgetting-{matrix.kind}", forgetting_figure([matrix])
    if len(sequences) > 1:
        yield "forgetting", forgetting_figure(sequences)
    for label, units in kinds_of_all(results["units"]).items():
        title = kind_label(units[0]["kind"], 0, units[0].get("method", ""))
        yield f"tasks-{label}", by_task_figure(units, f"all tasks: {title}")
    for task in dict.fromkeys(unit.task for unit in found.units if not UNIT_KINDS[unit.kind].of_all):
        units = [unit for unit in results["units"] if unit["task"] == task]
        if units:
            kind = units[0]["kind"]
            what = "its trainings" if task in targets else "a source" if kind == "adapter" else kind
            yield f"curves-{task}", curves(units, f"{task}: {what}")
