"""What is to be noticed in a task's rows before anything is trained, one sentence each, with what to do about it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graftwork.tasks.kind import find_kind
from graftwork.tasks.label_names import alike, folded, missing, name_of
from graftwork.tasks.rows import Place, Row, Rows
from graftwork.tasks.scoring.labels import LABEL
from graftwork.tasks.spec import TaskSpec

_FEW_ROWS, _FEW_OF_LABEL = 100, 5
_MUCH_LARGER = 5  # times that the most frequent label may have the rows of the rarest, before it is said
_SHOWN = 3


def notice(spec: TaskSpec, splits: Mapping[str, Rows]) -> Iterator[str]:
    """Say what the rows of a task have that makes a training or its scores worse, and what to do about each.

    Texts are alike if they differ by blanks, capitals and the encoding of characters alone.

    Args:
        spec: The task: its kind and the roles of the columns.
        splits: The rows by split: ``"train"``, and perhaps ``"dev"`` and ``"test"``. They need not be right: a row without a
            label is noticed.

    Example:
        >>> rows = Rows([{"text": "Good.", "label": "a"}, {"text": "good. ", "label": "b"}], source="t.csv")
        >>> [one for one in notice(TaskSpec(), {"train": rows}) if "alike" in one][0]
        "2 train rows have texts that are alike and different labels, first t.csv:1 'a' and t.csv:2 'b'; decide which is right"
    """
    kind = find_kind(spec, "the task")
    roles = (*kind.reads, *(("pair",) if "pair" in kind.options else ()))
    inputs = [getattr(spec, role) for role in roles if isinstance(getattr(spec, role), str)]
    labels = spec.label if kind.form == LABEL and "label" in kind.answers else None
    if len(splits["train"]) < _FEW_ROWS:
        yield (
            f"there are {len(splits['train'])} train rows, so that scores differ much from seed to seed; collect more, and "
            "train with several seeds (graftwork run --seeds 5)"
        )
    yield from _lacking(splits, inputs, [getattr(spec, role) for role in kind.answers], kind.form == LABEL)
    yield from _repeated(splits, inputs)
    if labels is not None:
        yield from _conflicting(splits["train"], inputs, labels)
        yield from _about_labels(spec, splits)


def _lacking(splits: Mapping[str, Rows], inputs: Sequence[str], answers: Sequence[str], labels: bool) -> Iterator[str]:
    """Rows with an empty text, and rows that should have an answer and have none."""
    for split, rows in splits.items():
        empty = [place for row, place in rows.placed() if any(_is_empty(row.get(c)) for c in inputs if c in row)]
        if empty:
            yield f"{_rows(len(empty), split)} an empty text, {_first(empty)}; fill it in, or take the row out"
        if split == "test":
            continue
        for column in answers:
            values = [(row.get(column), place) for row, place in rows.placed()]
            without = [place for value, place in values if value in (None, "") or (labels and missing(value))]
            if without:
                yield (
                    f"{_rows(len(without), split)} nothing in {column!r}, {_first(without)}, and `graftwork run` refuses that; "
                    "fill it in, or take the row out"
                )


def _repeated(splits: Mapping[str, Rows], inputs: Sequence[str]) -> Iterator[str]:
    """Rows whose input is alike in train, and in train and another split."""
    train = Counter(_folded(row, inputs) for row in splits["train"])
    again = sum(train.values()) - len(train)
    if again:
        yield f"{_rows(again, 'train')} a text that an earlier train row has; it counts twice: take one out"
    for split in ("dev", "test"):
        rows = splits.get(split)
        both = [place for row, place in rows.placed() if _folded(row, inputs) in train] if rows is not None else []
        if both:
            yield (
                f"{_rows(len(both), split)} a text that a train row has too, {_first(both)}; scores on them are too good: take "
                "them out of one of the two"
            )


def _conflicting(rows: Rows, inputs: Sequence[str], label: str) -> Iterator[str]:
    """Train rows with one text and different labels."""
    met: dict[str, dict[str, Place]] = {}
    count: Counter[str] = Counter()
    for row, place in rows.placed():
        name = name_of(row.get(label))
        if name is not None:
            key = _folded(row, inputs)
            met.setdefault(key, {}).setdefault(name, place)
            count[key] += 1
    at_odds = {key: found for key, found in met.items() if len(found) > 1}
    if at_odds:
        first = " and ".join(f"{place} {name!r}" for name, place in list(next(iter(at_odds.values())).items())[:2])
        yield (
            f"{sum(count[key] for key in at_odds)} train rows have texts that are alike and different labels, first {first}; "
            "decide which is right"
        )


def uneven(spec: TaskSpec, rows: Rows) -> bool:
    """Whether the most frequent label of some rows has many times the rows of the rarest one."""
    counts = [count for _, count in Counter(_names(rows, spec.label)).most_common()]
    return bool(counts) and counts[0] >= _MUCH_LARGER * counts[-1]


def _names(rows: Rows, label: str) -> list[str]:
    return [name for row in rows if (name := name_of(row.get(label))) is not None]


def _about_labels(spec: TaskSpec, splits: Mapping[str, Rows]) -> Iterator[str]:
    """Labels with far fewer rows than others, with hardly any, that are written in two ways, or are in one split alone."""
    names = {split: _names(rows, spec.label) for split, rows in splits.items()}
    counts = Counter(names["train"])
    if not counts:
        return
    (most, largest), (least, smallest) = counts.most_common()[0], counts.most_common()[-1]
    if uneven(spec, splits["train"]):
        yield (
            f"{largest} train rows are {most!r} and {smallest} are {least!r}; 'class_weights = \"balanced\"' lets every label "
            "count as much, and 'metrics = [\"macro_f1\"]' scores them alike"
        )
    few = [name for name, count in counts.items() if count < _FEW_OF_LABEL]
    if few:
        yield f"{_listed(few)} has fewer than {_FEW_OF_LABEL} train rows; collect more, or join it with another label"
    for written in alike(counts):
        yield f"the labels {_listed(written)} differ by blanks, capitals or encoding alone; write one label alike"
    for split in ("dev", "test"):
        strange = [name for name in dict.fromkeys(names.get(split, [])) if name not in counts]
        if strange:
            yield (
                f"{split} rows have {_listed(strange)}, which no train row has; give train rows of it, or say all labels: "
                "labels = [...]"
            )


def _rows(count: int, split: str) -> str:
    return f"1 {split} row has" if count == 1 else f"{count} {split} rows have"


def _first(places: Sequence[Place]) -> str:
    return f"{'first ' if len(places) > 1 else ''}at {places[0]}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + ", ..." * (len(names) > _SHOWN)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _folded(row: Row, inputs: Sequence[str]) -> str:
    """The input of a row, so that those that are alike are equal."""
    return json.dumps([_plain(row.get(column)) for column in inputs], default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return folded(value) if isinstance(value, str) else value
