"""Labels: their names, and which one a cell means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from graftwork.errors import TaskError
from graftwork.tasks.cells import Cells
from graftwork.tasks.needs import hint

_LONGEST_LIST = 1000


def name_of(value: Any) -> str | None:
    """A label as a name, ``None`` for what cannot be one."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value) if isinstance(value, (str, int, np.integer)) and str(value) != "" else None


def names_in(values: Iterable[tuple[Any, Cells, str]]) -> tuple[str, ...]:
    """The names of all labels that are met, sorted: numbers by their size, names by their letters.

    Args:
        values: Each label, with the cells it is in and its role, for complaints.

    Raises:
        TaskError: If one can be no label, or they are too many to be labels.
    """
    found: set[str] = set()
    for value, cells, role in values:
        name = name_of(value)
        if name is None:
            raise cells.wrong(
                role, f"the label {value!r} must be a name or a whole number; correct it or take the row out"
            )
        found.add(name)
        if len(found) > _LONGEST_LIST:
            raise cells.wrong(role, f"more than {_LONGEST_LIST} labels; name another column, or give labels = [...]")
    if all(_is_number(name) for name in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))


def resolve(value: Any, names: tuple[str, ...], cells: Cells, role: str) -> int:
    """The number of the label that a cell means: its name, or its number where the names are not numbers themselves.

    Raises:
        TaskError: If it is not one of the labels.
    """
    if type(value) is str and value in names:  # nearly always, and for every word of a tagged text
        return names.index(value)
    name = name_of(value)
    if name in names:
        return names.index(name)
    if name is not None and _is_number(name) and 0 <= int(name) < len(names) and not all(map(_is_number, names)):
        return int(name)
    shown = ", ".join(names[:20]) + ", ..." * (len(names) > 20)
    near = hint(name, names)
    raise cells.wrong(
        role,
        f"the label {value!r} is none of the {len(names)} labels ({shown}), which come from the task, meta.json or the "
        f"train rows; {near + ' or' if near else 'correct it, or'} give labels = [...]",
    )


def missing(value: Any) -> bool:
    """Whether a cell says that there is no label: nothing, or -1, as unlabelled rows of the Hub have it."""
    if value is None or (isinstance(value, str) and value == ""):
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == -1


def enough(names: tuple[str, ...], least: int, where: str) -> tuple[str, ...]:
    """Refuse fewer labels than can be learnt.

    Raises:
        TaskError: If so.
    """
    if len(names) < least:
        raise TaskError(f"{where}: the only label is {', '.join(names)!r}; {least} are needed; give labels = [...]")
    return names


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isascii() and name.removeprefix("-").isdigit()
