"""The tables that the quickstart prints, for a terminal and as Markdown."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import rich.table
from fit import Fit
from tasks import Task


@dataclasses.dataclass
class Table:
    """Text in rows and columns, the first column to the left and the others to the right."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def rich(self) -> rich.table.Table:
        """For a terminal."""
        table = rich.table.Table(title=self.title, title_justify="left")
        for place, column in enumerate(self.columns):
            table.add_column(column, justify="right" if place else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a page."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return f"{self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def source_table(sources: list[Task], fits: dict[str, Fit], out: Path) -> Table:
    """One adapter a source task."""
    rows = []
    for task in sources:
        fit = fits[task.name]
        scores = f"{task.majority:.1%}", f"{fit.accuracy:.1%}"
        rows.append(
            [task.name, str(len(task.train)), str(len(task.dev)), *scores, *costs([fit]), size(out / task.name)]
        )
    columns = ["source", "rows", "dev rows", "majority", "adapter", "trained", "epochs", "seconds", "file"]
    return Table("One adapter for each source task: accuracy on dev", columns, rows)


def target_table(target: Task, runs: list[dict[str, Fit]], out: Path) -> Table:
    """What is compared on the target: the mean over the seeds, and their standard deviation."""
    folders = {"single": target.name, "all": f"for-{target.name}", "own": f"{target.name}-alone"}
    folders["sources"] = "sources-alone"
    rows = [["majority class", f"{target.majority:.1%}", "", "", "", ""]]
    for what in runs[0]:
        fits = [run[what] for run in runs]
        values = [fit.accuracy for fit in fits]
        mean = f"{statistics.mean(values):.1%}"
        spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
        kind = next((word for word in folders if word in what.split()), None)
        rows.append([what, mean + spread, *costs(fits), size(out / folders[kind]) if kind else ""])
    seeds = f", mean ± sd of {len(runs)} seeds" if len(runs) > 1 else ""
    error = 100 * (0.25 / len(target.dev)) ** 0.5  # of a share of so many rows, at most
    title = f"{target.name}: {len(target.train)} rows to learn from; accuracy on {len(target.dev)} dev rows{seeds}"
    title += f"; standard error of one: {error:.1f} points"
    return Table(title, ["", "accuracy", "trained", "epochs", "seconds", "file"], rows)


def costs(fits: list[Fit]) -> list[str]:
    """Trained parameters, epochs and seconds of some repetitions."""
    return [f"{fits[0].parameters:,}", str(fits[0].epochs), f"{statistics.mean(fit.seconds for fit in fits):.0f}"]


def size(folder: Path) -> str:
    """The size of all files of a folder."""
    return f"{sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6:.2f} MB"
