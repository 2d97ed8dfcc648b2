"""A task: data, what is asked of it, and how well it is answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from graftwork.errors import TaskError
from graftwork.heads import HeadConfig
from graftwork.tasks.kind import Feature, Kind, find_kind
from graftwork.tasks.prediction import Prediction
from graftwork.tasks.reading import Splits, draw, hold_out, read_elsewhere, read_splits
from graftwork.tasks.rows import Rows
from graftwork.tasks.scoring import find_metric
from graftwork.tasks.spec import TaskSpec

GivenRows = Rows | Iterable[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Task:
    """A task with its rows, made by `Task.read` or `Task.from_rows`.

    Attributes:
        name: What the recipe calls it.
        spec: What it was made by.
        kind: What it knows of its kind.
        labels: The names of the labels in order, empty where the kind has none.
        train: The rows to learn from.
        dev: The rows that decide which epoch is the best.
        test: Rows that nothing is decided by, perhaps without answers; ``None`` where there are none.
        elsewhere: More rows that it is only scored on, by name: other languages, say.
        held_out: Whether ``dev`` is a share of ``train``, held out.
        class_weights: How much a row of each label counts in the loss; ``None`` where all count alike.
    """

    name: str
    spec: TaskSpec
    kind: Kind
    labels: tuple[str, ...]
    train: Rows
    dev: Rows
    test: Rows | None = None
    elsewhere: Mapping[str, Rows] = dataclasses.field(default_factory=dict)
    held_out: bool = False
    class_weights: tuple[float, ...] | None = None

    @classmethod
    def read(cls, name: str, spec: TaskSpec, root: str | Path = ".") -> Task:
        """Read a task's rows, and check every one.

        Args:
            name: What it is called.
            spec: What it is.
            root: What relative paths are relative to: the recipe's folder.

        Raises:
            TaskError: If something of it cannot be used.
        """
        kind = find_kind(spec.kind, f"task {name!r}")
        kind.check_spec(name, spec)
        _check_metrics(name, kind, spec)
        made = _made(name, spec, kind, read_splits(name, spec, Path(root)))
        elsewhere = {place: read_elsewhere(name, spec, at, Path(root)) for place, at in spec.evaluate_in.items()}
        for rows in elsewhere.values():
            made.kind.check(rows, answered=True)
        return dataclasses.replace(made, elsewhere=elsewhere)

    @classmethod
    def from_rows(
        cls,
        name: str,
        spec: TaskSpec,
        train: GivenRows,
        dev: GivenRows | None = None,
        test: GivenRows | None = None,
    ) -> Task:
        """A task of rows that are in memory.

        Args:
            name: What it is called.
            spec: What it is; where it says files, they are not read.
            train: The rows to learn from.
            dev: By default a share of ``train``.
            test: If there are any.

        Raises:
            TaskError: If something of it cannot be used.
        """
        kind = find_kind(spec.kind, f"task {name!r}")
        kind.check_spec(name, spec)
        _check_metrics(name, kind, spec)
        splits = Splits(
            _rows(train, f"{name}, train row"),
            None if dev is None else _rows(dev, f"{name}, dev row"),
            None if test is None else _rows(test, f"{name}, test row"),
        )
        return _made(name, spec, kind, splits)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that `score` gives."""
        return self.kind.metric_names()

    @property
    def metric(self) -> str:
        """The main metric, which decides the best epoch; higher is better."""
        return self.metrics[0]

    def head(self) -> HeadConfig:
        """The head that fits."""
        weights: dict[str, Any] = {} if self.class_weights is None else {"class_weights": self.class_weights}
        return dataclasses.replace(self.kind.head(), **weights)

    def features(
        self, rows: Rows, processor: Any, *, max_length: int | None = None, train: bool = False
    ) -> list[Feature]:
        """What a model is given for each row (see `Kind.features`)."""
        return self.kind.features(rows, processor, max_length=max_length, train=train)

    def collate(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Tensor]:
        """Features as one padded batch (see `Kind.collate`)."""
        return self.kind.collate(features, processor, for_model=for_model)

    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        """One prediction a row (see `Kind.decode`)."""
        return self.kind.decode(outputs, features, rows, processor)

    def score(self, predictions: Sequence[Prediction], rows: Rows) -> dict[str, float]:
        """Every metric of the task, the main one first; higher is better for each.

        Raises:
            TaskError: If a row does not say what is right.
        """
        if len(predictions) != len(rows):
            raise TaskError(
                f"task {self.name!r}: {len(predictions)} predictions for {len(rows)} rows; give one for each"
            )
        predicted, gold = self.kind.pairs(predictions, rows)
        where = f"task {self.name!r}"
        return {
            name: find_metric(name, self.kind.form, where)(predicted, gold, self.kind.scored_labels)
            for name in self.metrics
        }

    def lengths(self, features: Sequence[Feature]) -> list[int]:
        """How long each feature is, so that those of a similar length can share a batch."""
        return self.kind.lengths(features)


def _made(name: str, spec: TaskSpec, kind: type[Kind], splits: Splits) -> Task:
    for split, rows in (("train", splits.train), ("dev", splits.dev), ("test", splits.test)):
        if rows is not None and not rows:
            raise TaskError(f"task {name!r}: there are no {split} rows; give some")
    labels = kind.find_labels(name, spec, splits.train, splits.labels)
    asked = kind(spec, labels, name, numbered=bool(spec.labels or splits.labels))
    asked.check(splits.train, answered=True)
    train, dev = splits.train, splits.dev
    if dev is None:
        group = getattr(spec, kind.group) if kind.group else None
        train, dev = hold_out(train, spec.dev_share, group, [asked.labels_of(cells) for cells in asked.cells(train)])
    else:
        asked.check(dev, answered=True)
    if splits.test is not None:
        asked.check(splits.test, answered=False)
    test = None if splits.test is None else draw(splits.test, spec.scored_rows)
    train = draw(train, spec.rows)
    return Task(
        name,
        spec,
        asked,
        labels,
        train,
        draw(dev, spec.scored_rows),
        test,
        held_out=splits.dev is None,
        class_weights=asked.class_weights(train),
    )


def _rows(given: GivenRows, source: str) -> Rows:
    return given if isinstance(given, Rows) else Rows(given, source=source)


def _check_metrics(name: str, kind: type[Kind], spec: TaskSpec) -> None:
    for metric in spec.metrics or ():
        find_metric(metric, kind.form, f"task {name!r}")
