"""A table: for a terminal, a page, or plain text; whatever names are in it, it is nothing but text there."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import rich.table
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from graftwork.report.formatting import printable

MISSING = "not done yet"
_MARKUP = re.compile(r"[\\`*|]|(?<=\])\(|^#")  # a link is known by its ](


@dataclasses.dataclass(frozen=True)
class Table:
    """Text in rows and columns, the first column to the left and the others to the right; all of it printable.

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

    def __post_init__(self) -> None:
        seen = [[printable(cell) for cell in line] for line in (self.columns, self.notes, *self.rows)]
        for field, value in zip(("columns", "notes", "rows"), (seen[0], seen[1], seen[2:]), strict=True):
            object.__setattr__(self, field, value)
        object.__setattr__(self, "title", printable(self.title))

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
        lines = [[as_markdown(cell) for cell in self.columns], ruler, *([*map(as_markdown, row)] for row in self.rows)]
        body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        return "\n".join([f"## {as_markdown(self.title)}\n", body, *(f"{as_markdown(note)}\n" for note in self.notes)])

    def text(self) -> str:
        """For a file or a pipe: aligned by spaces."""
        lines = [self.columns, *self.rows]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        body = ["  ".join(_filled(cell, widths, n) for n, cell in enumerate(line)).rstrip() for line in lines]
        body.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.title, "", *body, *self.notes]) + "\n"


def as_markdown(text: str) -> str:
    """A text for a page of Markdown, where it is no link, no HTML and no other markup."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda found: f"\\{found[0]}", plain)


def print_text(text: str, console: Console, style: str = "") -> None:
    """Print a text of one line or more, whole however wide the terminal is, with nothing in it that a terminal obeys."""
    console.print(Text(printable(text, keep="\n"), style), soft_wrap=True)


def _filled(cell: str, widths: Sequence[int], place: int) -> str:
    """A cell as wide as its column, counted in what a terminal shows."""
    room = " " * (widths[place] - cell_len(cell))
    return room + cell if place else cell + room
