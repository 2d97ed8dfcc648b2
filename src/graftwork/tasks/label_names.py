"""Labels: their names, and which one a cell means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graftwork.errors import TaskError
from graftwork.options import hint
from graftwork.tasks.cells import Cells, shown

_LONGEST_LIST = 1000
_NUMBER = re.compile(r"(-?[0-9]{1,4000})(\.0+)?")  # Python reads no longer ones


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
        TaskError: If one can be no label, or they are too many to be labels, or some are names and some numbers.
    """
    found: dict[str, tuple[Cells, str]] = {}
    for value, cells, role in values:
        name = name_of(value)
        if name is None:
            raise cells.wrong(
                role, f"the label {shown(value)} must be a name or a whole number; correct it or take the row out"
            )
        found.setdefault(name, (cells, role))
        if len(found) > _LONGEST_LIST:
            raise cells.wrong(role, f"more than {_LONGEST_LIST} labels; name another column, or give labels = [...]")
    numbers = [name for name in found if number_of(name) is not None]
    if 0 < len(numbers) < len(found):
        cells, role = found[numbers[0]]
        raise cells.wrong(role, _unordered(numbers[0], [name for name in found if name not in numbers]))
    return tuple(sorted(found, key=lambda name: (number_of(name) or 0, name)))


def resolve(value: Any, names: tuple[str, ...], cells: Cells, role: str, numbered: bool) -> int:
    """The number of the label that a cell means: its name, or its number where the names are not numbers themselves.

    Args:
        value: What stands in the cell.
        names: The names of the labels in order.
        cells: The row, for complaints.
        role: The cell's.
        numbered: Whether somebody has given that order, so that numbers mean something.

    Raises:
        TaskError: If it is not one of the labels.
    """
    if type(value) is str and value in names:  # nearly always, and for every word of a tagged text
        return names.index(value)
    name = name_of(value)
    if name in names:
        return names.index(name)
    number = None if name is None or all(number_of(one) is not None for one in names) else number_of(name)
    if number is not None and not numbered:
        raise cells.wrong(role, _unordered(str(name), names))
    if number is not None and 0 <= number < len(names):
        return number
    near = hint(name, names)
    raise cells.wrong(
        role,
        f"the label {shown(value)} is none of the {len(names)} labels ({_listed(names)}), which come from the task, meta.json or "
        f"the train rows; {near + ' or' if near else 'correct it, or'} give labels = [...]",
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


def number_of(name: str) -> int | None:
    """The whole number that a name is, ``None`` where it is none; ``1.0``, as some programs write it, is one too."""
    found = _NUMBER.fullmatch(name)
    return None if found is None else int(found[1])


def _unordered(number: str, names: Sequence[str]) -> str:
    return (
        f"the label {number!r} is a number, other rows have names ({_listed(names)}), and nobody has said which name is which "
        "number; give labels = [...], the names in the order of the numbers, or write the same in all rows"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + ", ..." * (len(names) > 20)
