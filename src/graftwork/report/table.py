"""A table: for a terminal, a page, or plain text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import rich.table
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.text import Text

MISSING = "not done yet"
BACKSLASH = "\\"  # an expression in an f-string has none before Python 3.12


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


def _filled(cell: str, widths: Sequence[int], place: int) -> str:
    """A cell as wide as its column, counted in what a terminal shows."""
    room = " " * (widths[place] - cell_len(cell))
    return room + cell if place else cell + room
