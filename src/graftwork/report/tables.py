"""Results as tables: one for each target, one of the sources; for a terminal, a page, or plain text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import rich.table
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.text import Text

from graftwork.report.words import kind_label, metric_label, score, size
from graftwork.training.plan import Unit
from graftwork.training.results import KINDS

MISSING = "not done yet"
BACKSLASH = "\\"  # an expression in an f-string has none before Python 3.12
# Together with the rest as wide as a terminal of 80 columns.
_COSTS = ["trained", "file", "seconds", "ms/row"]


@dataclasses.dataclass(frozen=True)
class Table:
    """Text in rows and columns, the first column to the left and the others to the right.

    Attributes:
        title: Above it.
        columns: Their heads.
        rows: Each with a cell for every column.
        notes: Below it.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]

    def rich(self) -> rich.table.Table:
        """For a terminal; a name is shown as it is, whatever brackets are in it."""
        table = rich.table.Table(
            title=Text(self.title),
            title_justify="left",
            title_style="bold",
            caption=Text("\n".join(self.notes)) if self.notes else None,
            caption_justify="left",
            box=SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
        )
        for place, column in enumerate(self.columns):
            table.add_column(Text(column), justify="right" if place else "left")
        for row in self.rows:
            table.add_row(*[Text(cell, style="dim" if MISSING in cell else "") for cell in row])
        return table

    def markdown(self) -> str:
        """For a page."""
        ruler = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [self.columns, ruler, *self.rows]
        body = "".join(f"| {' | '.join(cell.replace('|', BACKSLASH + '|') for cell in line)} |\n" for line in lines)
        return "\n".join(
            [f"## {self.title}\n", body, *(f"{note.replace('*', BACKSLASH + '*')}\n" for note in self.notes)]
        )

    def text(self) -> str:
        """For a file or a pipe: aligned by spaces."""
        lines = [self.columns, *self.rows]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        body = ["  ".join(_filled(cell, widths, n) for n, cell in enumerate(line)).rstrip() for line in lines]
        body.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.title, "", *body, *self.notes]) + "\n"


def tables(results: Mapping[str, Any], units: Sequence[Unit] = ()) -> list[Table]:
    """A table for each target, and one of the sources.

    Args:
        results: What ``results.json`` says.
        units: All that were planned; what is not done of them is marked so. By default only what is done is shown.
    """
    rows = [*results["targets"]]
    targets = dict.fromkeys([*(u.task for u in units if u.kind == "fusion"), *(row["task"] for row in rows)])
    found = [target_table(target, [r for r in rows if r["task"] == target], units) for target in targets]
    sources = [unit for unit in units if unit.kind == "adapter" and unit.task not in targets]
    if sources or results["sources"]:
        found.append(source_table(results["sources"], sources))
    return found


def target_table(target: str, rows: Sequence[Mapping[str, Any]], units: Sequence[Unit] = ()) -> Table:
    """What was compared on a target.

    Args:
        target: The task.
        rows: Its rows of the results, of each kind one.
        units: All that were planned, of this and other tasks.
    """
    by_kind = {row["kind"]: row for row in rows}
    lines = []
    for kind in KINDS:
        planned = [unit for unit in units if (unit.kind, unit.task) == (kind, target)]
        row = by_kind.get(kind)
        if row is not None:
            mean = score(row["mean"], row["metric"], row["sd"])
            done, members = len(row["seeds"]), len(row["members"])
            lines.append([kind_label(kind, members), mean, _seeds(done, len(planned)), *_costs(row)])
        elif planned:
            lines.append(
                [kind_label(kind, len(planned[0].members)), MISSING, _seeds(0, len(planned)), *[""] * len(_COSTS)]
            )
    if not rows:
        return Table(f"{target}: nothing is done yet", ["", "score", "seeds", *_COSTS], lines, [])
    metric = rows[0]["metric"]
    spread = ", mean ± sd over the seeds" if any(row["sd"] is not None for row in rows) else ""
    title = f"{target}: {metric} on {_splits(rows)}{spread}"
    return Table(title, ["", metric_label(metric), "seeds", *_COSTS], lines, _notes(rows))


def source_table(rows: Sequence[Mapping[str, Any]], units: Sequence[Unit] = ()) -> Table:
    """The adapters of the tasks that are no targets.

    Args:
        rows: The sources of the results.
        units: All that were planned.
    """
    by_task = {row["task"]: row for row in rows}
    lines = []
    for task in dict.fromkeys([*(unit.task for unit in units), *by_task]):
        row = by_task.get(task)
        if row is None:
            lines.append([task, "", MISSING, "", *[""] * len(_COSTS)])
        else:
            cells = [metric_label(row["metric"]), score(row["mean"], row["metric"], row["sd"]), row["scored_on"]]
            lines.append([task, *cells, *_costs(row)])
    return Table("Sources: one adapter each", ["task", "metric", "score", "on", *_COSTS], lines, _notes(rows))


def _filled(cell: str, widths: Sequence[int], place: int) -> str:
    """A cell as wide as its column, counted in what a terminal shows."""
    room = " " * (widths[place] - cell_len(cell))
    return room + cell if place else cell + room


def _seeds(done: int, planned: int) -> str:
    return f"{done} of {planned}" if done < planned else str(done)


def _costs(row: Mapping[str, Any]) -> list[str]:
    timings = row["timings"]
    kept = size(row["file_bytes"]) + ("*" if row["kind"] == "full" else "")
    return [
        f"{row['trained_weights']:,}",
        kept,
        f"{timings['train_seconds']:,.0f}",
        f"{timings['milliseconds_a_row']:.1f}",
    ]


def _splits(rows: Iterable[Mapping[str, Any]]) -> str:
    return " and ".join(sorted({str(row["scored_on"]) for row in rows}))


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    if any(row["scored_on"] == "dev" for row in rows):
        notes.append("The best epoch was chosen on the same dev rows, so the scores on them are a little too good.")
    if any(row["members"] for row in rows):
        notes.append("Weights trained, file and seconds are a row's own, without the adapters that it stands over.")
    if any(row["kind"] == "full" for row in rows):
        notes.append("* not kept: what a file of it would take.")
    return notes
