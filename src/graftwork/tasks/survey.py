"""A survey of a task's data: the counts of rows and labels, and notes on what makes its scores misleading."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from graftwork.tasks.label_names import alike
from graftwork.tasks.reading import draw
from graftwork.tasks.rows import Place, Row, Rows, is_index
from graftwork.tasks.scoring import find_metric
from graftwork.tasks.scoring.labels import LABEL
from graftwork.tasks.task import Task
from graftwork.tasks.tokens import longest

_ENCODED = 2000  # rows that are encoded to see how long they are
_TRIED = 20  # rows that are encoded where nothing is cut
_ONE_SIDED = 0.9
_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class Survey:
    """Counts of a task's rows.

    Attributes:
        task: The task.
        counts: The number of train rows with each label, in the labels' order.
        dev_counts: The number of dev rows with each label.
        encoded: The number of train and dev rows that were encoded to see whether they are cut; 0 where the kind cuts none.
        cut: The number of these that have more tokens than the limit.
        limit: The most tokens of a row; ``None`` for any.
        repeated: The number of dev rows with the same input as a train row.
        empty: The places of rows that have an empty text.
    """

    task: Task
    counts: Mapping[str, int]
    dev_counts: Mapping[str, int]
    encoded: int
    cut: int
    limit: int | None
    repeated: int
    empty: tuple[Place, ...]

    @property
    def largest(self) -> float | None:
        """The share of the label that most train rows have; ``None`` where rows do not have one label each."""
        if self.task.kind.form != LABEL or not self.counts:
            return None
        return max(self.counts.values()) / len(self.task.train)

    def notes(self) -> Iterator[str]:
        """The labels and their numbers, then what should be known before the training, one sentence each."""
        if self.task.labels and self.counts:
            yield self._mapping()
            yield from self._about_labels()
        share = self.cut / max(self.encoded, 1)
        if share >= 0.05:
            yield f"{percent(share, 0)} of the rows have more than {self.limit} tokens, and the rest is cut off (max_length)"
        if self.repeated:
            yield f"{self.repeated} of {len(self.task.dev)} dev rows are train rows too, so that their scores are too good"
        if self.empty:
            rows = "1 row has" if len(self.empty) == 1 else f"{len(self.empty)} rows have"
            yield f"{rows} an empty text, the first at {self.empty[0]}"
        index = next((column for column in self.task.train[0] if is_index(column)), None)
        if index is not None:
            yield f"the column {index!r} is the index that pandas writes; nothing is read from it"

    def _mapping(self) -> str:
        rows, weights = len(self.task.train), self.task.class_weights
        labels = []
        for number, (label, count) in enumerate(self.counts.items()):
            weight = "" if weights is None else f", weight {weights[number]:.3g}"
            labels.append(f"{number} = {label!r} ({percent(count / rows)}{weight})")
        more = f", ... ({len(labels)} labels)" if len(labels) > _SHOWN else ""
        positive = "" if self.task.kind.positive is None else f"; f1 is that of {self.task.kind.positive!r}"
        return f"labels: {', '.join(labels[:_SHOWN])}{more}{positive}"

    def _about_labels(self) -> Iterator[str]:
        for labels in alike(self.counts):
            yield f"the labels {_listed(labels)} differ by blanks, capitals or encoding alone; write one label alike"
        unseen = [label for label, count in self.counts.items() if not count]
        if unseen:
            yield f"no train row has {_listed(unseen)}"
        unscored = [label for label, count in self.counts.items() if count and not self.dev_counts.get(label)]
        if unscored:
            yield f"no dev row has {_listed(unscored)}, so that no score tells how well that is learnt"
        if self.largest is not None and self.largest >= _ONE_SIDED:
            most = max(self.counts, key=lambda label: self.counts[label])
            ways = ['metrics = ["macro_f1"]'] * (self.task.metric in ("accuracy", "micro_f1"))
            ways += ['class_weights = "balanced"'] * (self.task.class_weights is None)
            way_out = f"; what lets the other labels count: {' and '.join(ways)}" if ways else ""
            yield f"who always says {most!r} is right in {percent(self.largest)} of the train rows{way_out}"


def survey(task: Task, processor: Any, max_length: int | None) -> Survey:
    """The survey of a task's data before it is trained; it takes seconds however many rows there are.

    Some of the rows are encoded, those with an empty text among them, so that a row that cannot be encoded fails here.

    Args:
        task: The task.
        processor: Its tokenizer, or its processor of images.
        max_length: The most tokens, where the task does not say.

    Raises:
        TaskError: If a row cannot be encoded, or a library is not installed that a metric needs.
    """
    for metric in task.metrics:
        find_metric(metric, task.kind.form, f"task {task.name!r}").require()
    parts = [task.train, task.dev, *(() if task.test is None else (task.test,)), *task.elsewhere.values()]
    empty = [(row, place) for rows in parts for row, place in rows.placed() if _is_empty(task, row)]
    seen = {_input_hash(task, row) for row in task.train}
    limit, encoded, cut = None, 0, 0
    both = Rows.from_pairs((*task.train.placed(), *task.dev.placed()))
    if task.kind.cuts:
        limit = longest(task.spec, max_length, processor)
        some = draw(both, _ENCODED)
        encoded, cut = len(some), _longer(task, some, processor, limit)
    else:
        task.features(draw(both, _TRIED), processor, max_length=max_length)
    task.features(Rows.from_pairs(empty[:_TRIED]), processor, max_length=max_length)
    return Survey(
        task,
        _counts(task, task.train),
        _counts(task, task.dev),
        encoded,
        cut,
        limit,
        sum(_input_hash(task, row) in seen for row in task.dev),
        tuple(place for _, place in empty),
    )


def _longer(task: Task, rows: Rows, processor: Any, limit: int | None) -> int:
    """How many rows are longer than a limit: they use a limit of one token more."""
    if limit is None:
        task.features(rows, processor)
        return 0
    kind = task.kind
    spec = task.spec.model_copy(update={"max_length": limit + 1, "packing": False})
    roomier = type(kind)(spec, kind.labels, kind.task, numbered=kind.numbered)
    lengths = roomier.lengths(roomier.features(rows, processor, max_length=None, train=True))
    return sum(length > limit for length in lengths)


def _counts(task: Task, rows: Rows) -> dict[str, int]:
    counts = Counter(label for cells in task.kind.cells(rows) for label in task.kind.labels_of(cells))
    return {label: counts[label] for label in task.labels} if counts else {}


def _inputs(task: Task, row: Row) -> list[Any]:
    roles = (*task.kind.reads, *(("pair",) if "pair" in task.kind.options else ()))
    return [row.get(getattr(task.spec, role)) for role in roles]


def _is_empty(task: Task, row: Row) -> bool:
    return any(isinstance(text, str) and not text.strip() for text in _inputs(task, row))


def _input_hash(task: Task, row: Row) -> int:
    """A hash of a row's input; for an image that is in memory, one that no other row has."""
    plain = (str, list, tuple, dict)
    return hash(tuple(repr(value) if isinstance(value, plain) else id(value) for value in _inputs(task, row)))


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage."""
    return f"{100 * share:.{digits}f} %"


def _listed(labels: list[str]) -> str:
    return ", ".join(map(repr, labels[:8])) + ", ..." * (len(labels) > 8)
