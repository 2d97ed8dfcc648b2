"""A plot that is drawn when needed, with the texts that stand beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from graftwork.report.formatting import printable
from graftwork.report.table import Table


@dataclasses.dataclass(frozen=True)
class Picture:
    """A plot that is drawn when needed; the texts are made printable.

    Attributes:
        name: The name of its file without the ending; empty for none.
        draw: Makes the figure.
        title: The title of its section on the page; empty for none.
        caption: The text below it on the page.
        notes: Lines below that.
        table: The same as numbers, if no other table has them.
    """

    name: str
    draw: Callable[[], Any]
    title: str = ""
    caption: str = ""
    notes: tuple[str, ...] = ()
    table: Table | None = None

    def __post_init__(self) -> None:
        for field in ("title", "caption"):
            object.__setattr__(self, field, printable(getattr(self, field)))
        object.__setattr__(self, "notes", tuple(map(printable, self.notes)))
