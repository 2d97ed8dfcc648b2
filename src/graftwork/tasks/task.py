"""A task: its rows, its kind, and its scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from graftwork.errors import TaskError
from graftwork.heads import HeadConfig
from graftwork.tasks.kind import Feature, Kind, find_kind
from graftwork.tasks.reading import Splits, deal, draw, hold_out, read_elsewhere, read_splits
from graftwork.tasks.rows import Prediction, Rows
from graftwork.tasks.scoring import find_metric
from graftwork.tasks.spec import TaskSpec

GivenRows = Rows | Iterable[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Task:
    """A task with its rows, made by `Task.read` or `Task.from_rows`.

    Attributes:
        name: Its name in the recipe.
        spec: What it was made from.
        kind: Its kind, made for this task.
        labels: The names of the labels in order, empty where the kind has none.
        train: The rows to train on.
        dev: The rows that decide which epoch is the best.
        test: Rows that decide nothing, perhaps without answers; ``None`` where there are none.
        elsewhere: More rows that it is only scored on, by name, such as those of other languages.
        held_out: Whether ``dev`` is a share of ``train``, held out.
        class_weights: The weight of a row of each label in the loss; ``None`` where all count the same.
        folds: The parts of its rows for cross-validation, of which ``dev`` is one and ``train`` the others; empty without.
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
    folds: tuple[Rows, ...] = ()

    @classmethod
    def read(cls, name: str, spec: TaskSpec, root: str | Path = ".") -> Task:
        """A task with its rows from files, every row checked.

        Args:
            name: Its name.
            spec: What it is made from.
            root: The folder that relative paths start from: the recipe's.

        Raises:
            TaskError: If an option, a file or a row cannot be used.
        """
        kind = _checked_kind(name, spec)
        task = _made(name, spec, kind, read_splits(name, spec, Path(root)))
        elsewhere = {other: read_elsewhere(name, spec, path, Path(root)) for other, path in spec.evaluate_in.items()}
        for rows in elsewhere.values():
            task.kind.check(rows, answered=True)
        return dataclasses.replace(task, elsewhere=elsewhere)

    @classmethod
    def from_rows(
        cls,
        name: str,
        spec: TaskSpec,
        train: GivenRows,
        dev: GivenRows | None = None,
        test: GivenRows | None = None,
    ) -> Task:
        """A task with rows that are in memory.

        Args:
            name: Its name.
            spec: What it is made from; the files that it names are not read.
            train: The rows to train on.
            dev: The rows that decide which epoch is the best; by default a share of ``train``.
            test: Rows that decide nothing, if there are any.

        Raises:
            TaskError: If an option or a row cannot be used.
        """
        kind = _checked_kind(name, spec)
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
        """The configuration of the head that the task needs."""
        weights: dict[str, Any] = {} if self.class_weights is None else {"class_weights": self.class_weights}
        return dataclasses.replace(self.kind.head(), **weights)

    def features(
        self, rows: Rows, processor: Any, *, max_length: int | None = None, train: bool = False
    ) -> list[Feature]:
        """The input of a model for each row (see `Kind.features`)."""
        return self.kind.features(rows, processor, max_length=max_length, train=train)

    def collate(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Tensor]:
        """Features as one padded batch (see `Kind.collate`)."""
        return self.kind.collate(features, processor, for_model=for_model)

    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        """One prediction a row (see `Kind.decode`)."""
        return self.kind.decode(outputs, features, rows, processor)

    def of_seed(self, seed: int) -> Task:
        """The task as a training with this seed has it: itself, or with ``folds`` another one of them as its dev rows."""
        if not self.folds:
            return self
        number, spec = seed % len(self.folds), self.spec
        others = (pair for n, part in enumerate(self.folds) if n != number for pair in part.placed())
        train, dev = draw(Rows.from_pairs(others), spec.rows), draw(self.folds[number], spec.scored_rows)
        return dataclasses.replace(self, train=train, dev=dev, class_weights=self.kind.class_weights(train))

    def few_shot(self) -> Task:
        """The task with ``shots`` of its training rows before each prompt, except in training."""
        examples = draw(self.train, self.spec.shots)
        return dataclasses.replace(self, kind=self.kind.with_examples(examples))

    def score(self, predictions: Sequence[Prediction], rows: Rows) -> dict[str, float]:
        """Every metric of the task (see `Kind.score`)."""
        return self.kind.score(predictions, rows)

    def lengths(self, features: Sequence[Feature]) -> list[int]:
        """How long each feature is, so that those of a similar length can share a batch."""
        return self.kind.lengths(features)


def _checked_kind(name: str, spec: TaskSpec) -> type[Kind]:
    """The class of a task's kind, after a check that the options and metrics of the task fit it."""
    kind = find_kind(spec, f"task {name!r}")
    kind.check_spec(name, spec)
    for metric in spec.metrics or ():
        find_metric(metric, kind.form, f"task {name!r}")
    return kind


def _made(name: str, spec: TaskSpec, kind_type: type[Kind], splits: Splits) -> Task:
    train, dev, test = splits.train, splits.dev, splits.test
    for split, rows in (("train", train), ("dev", dev), ("test", test)):
        if rows is not None and not rows:
            raise TaskError(f"task {name!r}: there are no {split} rows; give some")
    labels = kind_type.find_labels(name, spec, train, splits.labels)
    kind = kind_type(spec, labels, name, numbered=bool(spec.labels or splits.labels))
    kind.check(train, answered=True)
    if dev is not None:
        kind.check(dev, answered=True)
    if test is not None:
        kind.check(test, answered=False)
        test = draw(test, spec.scored_rows)
    if spec.folds is not None:
        whole = train if dev is None else Rows.from_pairs([*train.placed(), *dev.placed()])
        folds = deal(whole, spec.folds, *_group_and_labels(kind, whole))
        return Task(name, spec, kind, labels, whole, folds[0], test, held_out=True, folds=folds).of_seed(0)
    if dev is None:
        train, dev = hold_out(train, spec.dev_share, *_group_and_labels(kind, train))
    train, dev = draw(train, spec.rows), draw(dev, spec.scored_rows)
    held_out, weights = splits.dev is None, kind.class_weights(train)
    return Task(name, spec, kind, labels, train, dev, test, held_out=held_out, class_weights=weights)


def _group_and_labels(kind: Kind, rows: Rows) -> tuple[str | None, list[Collection[str]]]:
    """The column whose equal values stay in one part of the rows, and the labels whose shares are kept."""
    return getattr(kind.spec, kind.group) if kind.group else None, [kind.labels_of(cells) for cells in kind.cells(rows)]


def _rows(given: GivenRows, source: str) -> Rows:
    return given if isinstance(given, Rows) else Rows(given, source=source)
