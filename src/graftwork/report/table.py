"""A table for a terminal, Markdown or plain text; names in it are shown as text and never read as markup."""

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
    """A title, the heads of the columns, rows with a cell for every column, and notes below; all text is made printable."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", printable(self.title))
        object.__setattr__(self, "columns", [*map(printable, self.columns)])
        object.__setattr__(self, "rows", [[*map(printable, row)] for row in self.rows])
        object.__setattr__(self, "notes", [*map(printable, self.notes)])

    def rich(self) -> rich.table.Table:
        """The table for a terminal; brackets in names are no markup."""
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
        """The table as a section of Markdown."""
        ruler = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [[*map(as_markdown, self.columns)], ruler, *([*map(as_markdown, row)] for row in self.rows)]
        body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        return "\n".join([f"## {as_markdown(self.title)}\n", body, *(f"{as_markdown(note)}\n" for note in self.notes)])

    def text(self) -> str:
        """The table for a file or a pipe, aligned by spaces."""
        lines = [self.columns, *self.rows]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        body = ["  ".join(_filled(cell, widths, n) for n, cell in enumerate(line)).rstrip() for line in lines]
        body.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.title, "", *body, *self.notes]) + "\n"


def as_markdown(text: str) -> str:
    """A text for Markdown, escaped so that nothing in it is a link, HTML or other markup."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda found: f"\\{found[0]}", plain)


def print_table(table: Table, console: Console) -> None:
    """Print a table for a terminal, or for a pipe."""
    if console.is_terminal:
        console.print()
        console.print(table.rich())
    else:
        print_text(table.text(), console)


def print_text(text: str, console: Console, style: str = "") -> None:
    """Print a text, not cut to the terminal's width, with nothing in it that a terminal obeys."""
    console.print(Text(printable(text, keep="\n"), style), soft_wrap=True)


def _filled(cell: str, widths: Sequence[int], place: int) -> str:
    """A cell padded to its column's width as a terminal shows it."""
    spaces = " " * (widths[place] - cell_len(cell))
    return spaces + cell if place else cell + spaces
