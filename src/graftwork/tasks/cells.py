"""The cells of one row, read as text, number or list; errors name the place of the row, the value and a way out."""

from __future__ import annotations

import json
import math
from typing import Any

from graftwork.errors import TaskError
from graftwork.options import hint
from graftwork.tasks.rows import Place, Row, is_index
from graftwork.tasks.spec import TaskSpec


class Cells:
    """One row, read by the roles that a `TaskSpec` gives to columns; a cell that does not fit raises a `TaskError`.

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
        """The value of a role, which must be there."""
        column = self.column(role)
        if column not in self.row:
            near = hint(column, self.row)
            there = [f"{name!r}{' (the index that pandas writes)' * is_index(name)}" for name in self.row]
            raise TaskError(
                f"{self.place}: no column {column!r}; the row has {', '.join(there) or 'none'}; "
                f'name the column of the {role} in the task, {role} = "COLUMN"' + (f" ({near})" if near else "")
            )
        if self.get(role) is None:
            raise self.wrong(role, "a value has to stand there; give one, or take the row out")
        return self.row[column]

    def text(self, role: str) -> str:
        """A text."""
        value = self.value(role)
        if not isinstance(value, str):
            raise self.wrong(role, "it must be a text; write it in quotes, or name another column")
        return value

    def number(self, role: str) -> float:
        """A finite number, also one that is written as text, as in CSV."""
        value = self.value(role)
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            raise self.wrong(role, "it must be a number; name another column, or another kind of task") from None
        if not math.isfinite(found):
            raise self.wrong(role, "it must be a finite number; correct it, or take the row out")
        return found

    def several(self, role: str) -> list[Any]:
        """A list that is not empty; a cell of a table may have it as JSON."""
        value = self.listed(role)
        if not isinstance(value, list) or not value:
            raise self.wrong(role, 'it must be a list that is not empty; in a table, written as ["one", "two"]')
        return value

    def listed(self, role: str) -> Any:
        """The value of a role: JSON of a list, a tuple or an array as a list, anything else as it is."""
        value = self.value(role)
        if isinstance(value, str) and value.lstrip().startswith("["):
            value = self.json(role)
        if hasattr(value, "tolist"):
            value = value.tolist()
        return list(value) if isinstance(value, tuple) else value

    def texts(self, role: str) -> list[str]:
        """A list of texts that is not empty."""
        values = self.several(role)
        for number, value in enumerate(values, 1):
            if not isinstance(value, str):
                raise self.wrong(role, f"number {number} of it, {value!r}, must be a text; write it in quotes")
        return values

    def json(self, role: str) -> Any:
        """A value that a table has as JSON."""
        try:
            return json.loads(self.value(role))
        except (ValueError, RecursionError) as error:
            raise self.wrong(role, f"it is not JSON ({error}); mend it") from error

    def wrong(self, role: str, way_out: str) -> TaskError:
        """The error that a role's value is wrong: the place of the row, the value, and what to do."""
        return TaskError(f"{self.place}: {self.column(role)!r} is {shown(self.row.get(self.column(role)))}; {way_out}")


def shown(value: object) -> str:
    """Any value for a message, on one line and at most 80 characters long."""
    try:
        text = " ".join(repr(value[:200] if isinstance(value, (str, bytes, list, tuple)) else value).split())
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."
