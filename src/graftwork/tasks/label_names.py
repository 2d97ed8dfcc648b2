"""Labels: their names, and which one a cell means."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from graftwork.errors import TaskError
from graftwork.options import hint
from graftwork.tasks.cells import Cells, shown
from graftwork.tasks.rows import Rows
from graftwork.tasks.spec import TaskSpec

_MOST_LABELS = 1000
_NUMBER = re.compile(r"(-?[0-9]{1,4000})(\.0+)?")  # Python reads no longer ones


def name_of(value: Any) -> str | None:
    """A label as a name, ``None`` for what cannot be one."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value) if isinstance(value, (str, int, np.integer)) and str(value) != "" else None


def names_in(rows: Rows, spec: TaskSpec, role: str, values: Callable[[Cells], Iterable[Any]]) -> tuple[str, ...]:
    """The names of all labels in some rows, sorted: numbers by their size, names by their letters.

    ``values`` gives the labels of one row, from the column of ``role``. A `TaskError` is raised if a value can be no label, there
    are too many, or some are names and some are numbers.
    """
    found: dict[str, Cells] = {}
    for row, place in rows.placed():
        cells = Cells(row, place, spec)
        for value in values(cells):
            name = name_of(value)
            if name is None:
                raise cells.wrong(
                    role, f"the label {shown(value)} must be a name or a whole number; correct it or take the row out"
                )
            found.setdefault(name, cells)
            if len(found) > _MOST_LABELS:
                raise cells.wrong(role, f"more than {_MOST_LABELS} labels; name another column, or give labels = [...]")
    numbers = [name for name in found if number_of(name) is not None]
    if 0 < len(numbers) < len(found):
        words = [name for name in found if name not in numbers]
        raise found[numbers[0]].wrong(role, _mixed(numbers[0], words))
    return tuple(sorted(found, key=lambda name: (number_of(name) or 0, name)))


def resolve(value: Any, names: tuple[str, ...], cells: Cells, role: str, numbered: bool) -> int:
    """The number of the label that a cell has, as its name, or as its number where the names are not numbers themselves.

    A number is allowed only where the user or the data gives the order of the names (``numbered``).
    """
    if type(value) is str and value in names:  # nearly always, and for every word of a tagged text
        return names.index(value)
    name = name_of(value)
    if name in names:
        return names.index(name)
    number = None if name is None or all(number_of(one) is not None for one in names) else number_of(name)
    if number is not None and not numbered:
        raise cells.wrong(role, _mixed(str(name), names))
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


def alike(names: Iterable[str]) -> list[list[str]]:
    """The names that differ by blanks, capitals or the encoding of characters alone, those of one name together."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(folded(name), []).append(name)
    return [written for written in found.values() if len(written) > 1]


def folded(text: str) -> str:
    """A text without what hardly anybody sees: how wide blanks are, capitals, and the encoding of characters."""
    return unicodedata.normalize("NFKC", " ".join(text.split())).casefold()


def enough(names: tuple[str, ...], least: int, where: str) -> tuple[str, ...]:
    """The names, if there are at least that many; else a `TaskError`."""
    if len(names) < least:
        raise TaskError(f"{where}: the only label is {', '.join(names)!r}; {least} are needed; give labels = [...]")
    return names


def number_of(name: str) -> int | None:
    """The whole number that a name is, ``None`` where it is none; ``1.0``, as some programs write it, is one too."""
    found = _NUMBER.fullmatch(name)
    return None if found is None else int(found[1])


def _mixed(number: str, names: Sequence[str]) -> str:
    return (
        f"the label {number!r} is a number, other rows have names ({_listed(names)}), and nobody has said which name is which "
        "number; give labels = [...], the names in the order of the numbers, or write the same in all rows"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + ", ..." * (len(names) > 20)
