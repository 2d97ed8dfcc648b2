"""Rows set apart and rows drawn: the same in every run and on every machine."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from graftwork.errors import TaskError
from graftwork.tasks.rows import Rows

_SEED = 0


def hold_out(rows: Rows, share: float, column: str | None) -> tuple[Rows, Rows]:
    """Two parts of the rows: to learn from, and held out.

    Rows with equal values in a column stay together: a text on both sides would make the second part too easy.

    Args:
        rows: All of them.
        share: How much is held out, rounded up to whole groups.
        column: What must not be on both sides; ``None`` where every row stands for itself.

    Raises:
        TaskError: If all rows are one group.
    """
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(_key(row.get(column), index) if column else str(index), []).append(index)
    if len(groups) < 2:
        what = f"all have the same {column!r}" if len(rows) > 1 else "are one"
        raise TaskError(f"{rows.place(0)}: the {len(rows)} train rows {what}, so none can be held out; give dev = FILE")
    keys = sorted(groups)
    random.Random(_SEED).shuffle(keys)
    apart: set[int] = set()
    while len(apart) < share * len(rows) and len(keys) > 1:
        apart.update(groups[keys.pop()])
    return rows.take(i for i in range(len(rows)) if i not in apart), rows.take(sorted(apart))


def draw(rows: Rows, count: int | None) -> Rows:
    """At most so many rows, in their order; a smaller draw is part of every larger one."""
    if count is None or count >= len(rows):
        return rows
    order = list(range(len(rows)))
    random.Random(_SEED).shuffle(order)
    return rows.take(sorted(order[:count]))


def _key(value: Any, index: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return json.dumps(list(value), default=str)
    return str(index)
