"""The cells of one row, as what they must be; what is not says where it stands and what to do about it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from graftwork.errors import TaskError
from graftwork.options import hint
from graftwork.tasks.rows import Place, Row, shown_column
from graftwork.tasks.spec import TaskSpec


class Cells:
    """One row, read by the roles that a `TaskSpec` gives to columns.

    Args:
        row: The row.
        place: Where it came from.
        spec: Which column has which role.
    """

    def __init__(self, row: Row, place: Place, spec: TaskSpec) -> None:
        self.row, self.place, self.spec = row, place, spec

    def column(self, role: str) -> str:
        """The column that has a role."""
        name: str = getattr(self.spec, role)
        return name

    def get(self, role: str) -> Any:
        """The value of a role, ``None`` where the row has none."""
        value = self.row.get(self.column(role))
        return None if isinstance(value, float) and math.isnan(value) and role != "label" else value

    def value(self, role: str) -> Any:
        """The value of a role.

        Raises:
            TaskError: If the row has no such column, or nothing in it.
        """
        column = self.column(role)
        if column not in self.row:
            near = hint(column, self.row)
            raise TaskError(
                f"{self.place}: no column {column!r}; the row has {', '.join(map(shown_column, self.row)) or 'none'}; "
                f'name the column of the {role} in the task, {role} = "COLUMN"' + (f" ({near})" if near else "")
            )
        if self.get(role) is None:
            raise self.wrong(role, "a value has to stand there; give one, or take the row out")
        return self.row[column]

    def text(self, role: str) -> str:
        """A text.

        Raises:
            TaskError: If it is none.
        """
        value = self.value(role)
        if not isinstance(value, str):
            raise self.wrong(role, "it must be a text; write it in quotes, or name another column")
        return value

    def number(self, role: str) -> float:
        """A finite number; one that is written out, as in CSV, too.

        Raises:
            TaskError: If it is none.
        """
        value = self.value(role)
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            raise self.wrong(role, "it must be a number; name another column, or another kind of task") from None
        if not math.isfinite(found):
            raise self.wrong(role, "it must be a finite number; correct it, or take the row out")
        return found

    def several(self, role: str) -> list[Any]:
        """A list that is not empty; a cell of a table may have it as JSON.

        Raises:
            TaskError: If it is none.
        """
        value = self.value(role)
        if isinstance(value, str) and value.lstrip().startswith("["):
            value = self.json(role)
        if isinstance(value, (tuple, np.ndarray)):
            value = list(value)
        if not isinstance(value, list) or not value:
            raise self.wrong(role, 'it must be a list that is not empty; in a table, written as ["one", "two"]')
        return value

    def texts(self, role: str) -> list[str]:
        """A list of texts.

        Raises:
            TaskError: If it is none.
        """
        values = self.several(role)
        for number, value in enumerate(values, 1):
            if not isinstance(value, str):
                raise self.wrong(role, f"number {number} of it, {value!r}, must be a text; write it in quotes")
        return values

    def json(self, role: str) -> Any:
        """A value that a table has written out as JSON.

        Raises:
            TaskError: If it does not parse.
        """
        try:
            return json.loads(self.value(role))
        except (ValueError, RecursionError) as error:
            raise self.wrong(role, f"it is not JSON ({error}); mend it") from error

    def wrong(self, role: str, way_out: str) -> TaskError:
        """A complaint about the value of a role: what it is, where it stands, what to do."""
        return TaskError(f"{self.place}: {self.column(role)!r} is {shown(self.row.get(self.column(role)))}; {way_out}")


def shown(value: object) -> str:
    """A value for a message, whatever it is: on one line, and not long."""
    try:
        text = " ".join(repr(value[:200] if isinstance(value, (str, bytes, list, tuple)) else value).split())
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."
