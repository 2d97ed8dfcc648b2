"""Rows held out and rows drawn: the same in every run and on every machine."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from graftwork.errors import TaskError
from graftwork.tasks.rows import Rows

_SEED = 0


def hold_out(
    rows: Rows, share: float, column: str | None, labels: Sequence[Collection[str]] | None = None
) -> tuple[Rows, Rows]:
    """Two parts of the rows: to train on, and held out.

    Rows with equal values in ``column`` are one group and stay together: a text in both parts would make the second part too
    easy. The same share of each label is held out, rounded up to whole groups, and at least one row of a label that has rows in
    two groups. Where rows have several labels, rare labels raise the share to no more than twice itself.
    """
    groups = _groups(rows, column)
    if len(groups) < 2:
        what = f"all have the same {column!r}" if len(rows) > 1 else "are one"
        raise TaskError(f"{rows.place(0)}: the {len(rows)} train rows {what}, so none can be held out; give dev = FILE")
    held_out = _held_out(groups, _labels_of(rows, labels), share)
    return rows.take(i for i in range(len(rows)) if i not in held_out), rows.take(sorted(held_out))


def deal(
    rows: Rows, folds: int, column: str | None, labels: Sequence[Collection[str]] | None = None
) -> tuple[Rows, ...]:
    """The rows in so many parts, each with about the same number of rows of each label; groups stay together as in `hold_out`.

    The rarest label is dealt first, each group to the part that has the fewest rows of it (iterative stratification,
    Sechidis, Tsoumakas & Vlahavas 2011).
    """
    groups = _groups(rows, column)
    if len(groups) < folds:
        what = f"{len(groups)} different {column!r}" if column and len(groups) < len(rows) else f"{len(rows)} rows"
        raise TaskError(f"{rows.place(0)}: {what} cannot be dealt into {folds} folds; give fewer folds, or more rows")
    of_row, parts = _labels_of(rows, labels), [set[int]() for _ in range(folds)]
    counts = [Counter[str]() for _ in range(folds)]
    left = {key: Counter(one for i in group for one in of_row[i]) for key, group in groups.items()}
    while left:
        having = Counter(one for of_group in left.values() for one in of_group)
        label = min(having, key=lambda one: (having[one], one))
        for key in [key for key, of_group in left.items() if label in of_group]:
            fewest = min(range(folds), key=lambda n: (counts[n][label], len(parts[n]), n))
            parts[fewest].update(groups[key])
            counts[fewest].update(left.pop(key))
    return tuple(rows.take(sorted(part)) for part in parts)


def _groups(rows: Rows, column: str | None) -> dict[str, list[int]]:
    """The numbers of the rows with one value in a column, by value, in an order that is drawn once and for all."""
    found: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        found.setdefault(_key(row.get(column), index) if column else str(index), []).append(index)
    keys = sorted(found)
    random.Random(_SEED).shuffle(keys)
    return {key: found[key] for key in reversed(keys)}


def _labels_of(rows: Rows, labels: Sequence[Collection[str]] | None) -> list[set[str]]:
    return [set(labels[n]) if labels and labels[n] else {""} for n in range(len(rows))]


def _held_out(groups: Mapping[str, Sequence[int]], labels: Sequence[set[str]], share: float) -> set[int]:
    """The numbers of the rows that are held out, in whole groups: for the rarest label first, since it has the fewest rows."""
    having: dict[str, list[str]] = {}
    for key, whose in groups.items():
        for label in set().union(*(labels[i] for i in whose)):
            having.setdefault(label, []).append(key)
    counts = Counter(label for found in labels for label in found)
    left = {label: len(keys) for label, keys in having.items()}  # groups to train on
    most = 2 * share * len(labels) if max(map(len, labels)) > 1 else len(labels)
    found: set[int] = set()
    held: Counter[str] = Counter()
    for label in sorted(having, key=lambda label: (len(having[label]), label)):
        for key in having[label]:
            if held[label] >= share * counts[label] or len(found) >= most:
                break
            inside = set().union(*(labels[i] for i in groups[key]))
            if found.isdisjoint(groups[key]) and all(left[one] > 1 for one in inside):
                found.update(groups[key])
                held.update(one for i in groups[key] for one in labels[i])
                left.update({one: left[one] - 1 for one in inside})
    return found


def draw(rows: Rows, count: int | None) -> Rows:
    """At most ``count`` rows, in their order; a smaller draw is part of every larger one."""
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
