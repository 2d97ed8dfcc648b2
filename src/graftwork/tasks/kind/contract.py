"""What a kind of task promises: from rows to features, to a batch, and from a model's outputs to one prediction a row."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from torch import Tensor

from graftwork.errors import TaskError
from graftwork.heads import HeadConfig
from graftwork.options import nearest
from graftwork.tasks.batches import array, finished, pad_tokens, same_count
from graftwork.tasks.cells import Cells
from graftwork.tasks.decisions import Decision
from graftwork.tasks.rows import Prediction, Row, Rows
from graftwork.tasks.scoring import find_metric
from graftwork.tasks.spec import TaskSpec

Feature = dict[str, Any]

# The options that every kind takes; each kind adds its own.
_COMMON = frozenset(
    "kind data train dev test dev_share folds rows scored_rows metrics language evaluate_in knowledge beside base adapters".split()
)
_OF_TEXTS = {"description", "prompts"}  # of the kinds that read texts: other texts are compared with them


class Kind(ABC):
    """A kind of task, for one task.

    A feature is the input of a model for one row, as Python lists and numbers (images: tensors); some kinds make several
    features of one row. Besides the model's inputs and ``"labels"`` it may hold what `decode` needs; `collate` leaves that
    out.

    Args:
        spec: The task.
        labels: The names of its labels, where it has any.
        name: The name of the task, for messages.
        numbered: Whether the user or the data gives the labels' order, so that a label may be written as its number.

    Attributes:
        name: The name under which the kind is registered.
        generates: Whether a model's outputs are generated tokens, not logits.
        auto: The class of transformers that loads the base.
        processor: What makes a model's inputs: a ``"tokenizer"``, or a processor of an ``"image"``.
        metrics: The default metrics; the first decides the best epoch.
        form: The form of a prediction's value, by which metrics are chosen.
        reads: Roles of the columns that a row must have for a prediction.
        answers: Roles of the further columns that a row must have for training.
        options: The fields of a `TaskSpec` that it uses, in addition to the columns and to those that every kind uses.
        group: Role of the column whose equal values are held out together.
        cuts: Whether a text of more than ``max_length`` tokens is cut off.
        pads_labels: Whether labels are lists of several lengths, which `collate` pads.
        has_weights: Whether its head has weights of its own; else the base answers by itself.
        has_loss: Whether the labels of a feature that is not for training are those that a loss is of.
        decision: How probabilities become a prediction, where the kind has any.
    """

    name: ClassVar[str] = ""
    generates: ClassVar[bool] = False
    auto: ClassVar[str] = "AutoModel"
    processor: ClassVar[str] = "tokenizer"
    metrics: ClassVar[tuple[str, ...]] = ()
    form: ClassVar[str] = ""
    reads: ClassVar[tuple[str, ...]] = ()
    answers: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[frozenset[str]] = frozenset()
    group: ClassVar[str | None] = None
    cuts: ClassVar[bool] = True
    pads_labels: ClassVar[bool] = False
    has_weights: ClassVar[bool] = True
    has_loss: ClassVar[bool] = True

    def __init__(self, spec: TaskSpec, labels: tuple[str, ...] = (), name: str = "", *, numbered: bool = True) -> None:
        self.spec, self.labels, self.task, self.numbered = spec, labels, name, numbered
        self.decision = Decision(threshold=spec.threshold if isinstance(spec.threshold, float) else None)

    # ------------------------------------------------------------------------------------------- data

    @classmethod
    def variant(cls, spec: TaskSpec) -> type[Kind]:
        """The class that serves a task of this kind, where the kind has several."""
        return cls

    @classmethod
    def columns(cls, spec: TaskSpec, *, train: bool) -> tuple[str, ...]:
        """The columns that a row must have for a prediction, or for training."""
        return tuple(getattr(spec, role) for role in cls.reads + (cls.answers if train else ()))

    @classmethod
    def check_spec(cls, name: str, spec: TaskSpec) -> None:
        """Check that the kind uses every option that is given.

        Raises:
            TaskError: If it does not.
        """
        known = _COMMON | cls.options | {*cls.reads, *cls.answers}
        if cls.processor == "tokenizer":
            known |= _OF_TEXTS
        unused = sorted(spec.model_fields_set - known)
        if unused:
            raise TaskError(
                f"task {name!r}: {unused[0]} means nothing for {cls.name}; it takes {', '.join(sorted(known))}"
            )
        if "choices" in cls.reads and not isinstance(spec.choices, str):
            raise TaskError(
                f"task {name!r}: choices is {list(spec.choices)!r}; for {cls.name} it is the name of a column"
            )

    @classmethod
    def find_labels(
        cls, name: str, spec: TaskSpec, train: Rows, data_labels: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        """The names of the labels.

        Args:
            name: The name of the task, for messages.
            spec: The task; its ``labels`` come first.
            train: All rows to train on.
            data_labels: The names that the data gives with its rows, if it does.

        Raises:
            TaskError: If they cannot be found.
        """
        return ()

    def typed(self, texts: Sequence[str]) -> Row:
        """A row of typed texts: one for each column that is read, and perhaps a second text where the kind takes pairs.

        Raises:
            TaskError: If there are too few or too many.
        """
        most = self.reads + (("pair",) if "pair" in self.options else ())
        if not len(self.reads) <= len(texts) <= len(most):
            columns = [getattr(self.spec, role) for role in self.reads]
            more = f", and perhaps the {self.spec.pair}" if "pair" in self.options else ""
            raise TaskError(
                f"task {self.task!r} is asked with the {' and the '.join(columns)}{more}; given are {len(texts)} texts"
            )
        return {getattr(self.spec, role): text for role, text in zip(most, texts, strict=False)}

    @abstractmethod
    def read(self, cells: Cells) -> Any:
        """The input of a row, checked.

        Raises:
            TaskError: If the row does not have it.
        """

    @abstractmethod
    def answer(self, cells: Cells) -> Any:
        """The right answer of a row, in the form of a prediction's value; ``None`` where the row has none.

        Raises:
            TaskError: If the row has one that cannot be right.
        """

    @property
    def scored_labels(self) -> tuple[str, ...]:
        """The labels as metrics take them: where one of two is the positive one, that one last."""
        return self.labels

    @property
    def positive(self) -> str | None:
        """The label that ``f1`` is of, where it is of one."""
        return None

    def class_weights(self, rows: Rows) -> tuple[float, ...] | None:
        """The weight of a row of each label in the loss, in the labels' order; ``None`` where all count the same.

        Args:
            rows: The rows to train on.

        Raises:
            TaskError: If the weights of the task do not fit the labels.
        """
        return None

    def labels_of(self, cells: Cells) -> Collection[str]:
        """The labels of a row, so that the same share of each can be held out; none where the kind has no labels."""
        return ()

    def check(self, rows: Rows, *, answered: bool) -> None:
        """Read every row once.

        Args:
            rows: The rows.
            answered: Whether each must have a right answer.

        Raises:
            TaskError: If one cannot be used.
        """
        for cells in self.cells(rows):
            self.read(cells)
            if self.answer(cells) is None and answered:
                raise self._unanswered(cells)

    def gold(self, rows: Rows) -> list[Any]:
        """The right answer of each row.

        Raises:
            TaskError: If a row has none.
        """
        found = []
        for cells in self.cells(rows):
            found.append(self.answer(cells))
            if found[-1] is None:
                raise self._unanswered(cells)
        return found

    def cells(self, rows: Rows) -> list[Cells]:
        """The rows, to be read by their roles."""
        return [Cells(row, place, self.spec) for row, place in rows.placed()]

    def _unanswered(self, cells: Cells) -> TaskError:
        for role in self.answers:
            cells.value(role)  # its message is more exact
        return cells.wrong(
            self.answers[0], "an answer has to stand there, except in test rows; give one, or take the row out"
        )

    # ------------------------------------------------------------------------------------------- model

    @abstractmethod
    def head(self) -> HeadConfig:
        """The head that gives the logits which `decode` reads."""

    @abstractmethod
    def features(self, rows: Rows, processor: Any, *, max_length: int | None, train: bool) -> list[Feature]:
        """The input of a model for each row, with ``"labels"`` where the row has an answer.

        Args:
            rows: The rows.
            processor: A tokenizer, or a processor of images.
            max_length: The most tokens, where the task does not say.
            train: Whether they are for training; then each row must have an answer.

        Raises:
            TaskError: If a row cannot be used.
        """

    def collate(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Tensor]:
        """Features as one padded batch; ``"labels"`` is one tensor of the shape that the head takes.

        Args:
            features: Some of those that `features` made.
            processor: The same one.
            for_model: Keys that its ``forward`` does not take are left out.
        """
        return finished(pad_tokens(features, processor), features, for_model, padded=self.pads_labels)

    def reduce(self, logits: Tensor, labels: Tensor | None = None) -> Tensor:
        """The part of a batch's logits that `decode` needs, so that the outputs of many batches take less memory.

        `decode` takes the whole logits too.
        """
        return logits

    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        """One prediction a row.

        Args:
            outputs: For each feature the model's logits, or generated tokens where the kind generates.
            features: The features that the outputs are for.
            rows: The rows that the features were made of.
            processor: The same one.
        """
        same_count(outputs, rows, "rows")
        return [self.predict(array(output).reshape(-1)) for output in outputs]

    def predict(self, logits: np.ndarray) -> Prediction:
        """The prediction for the logits ``(outputs,)`` of one row, for kinds that do not override `decode`."""
        raise NotImplementedError

    def decided(self, prediction: Prediction) -> Prediction:
        """A prediction at the temperature 1, as the kind's ``decision`` makes it; itself where the kind has none."""
        return prediction

    def fit_decision(self, predictions: Sequence[Prediction], rows: Rows) -> Decision | None:
        """The decision that dev rows suggest, from predictions at the temperature 1; ``None`` where the task asks for none."""
        return None

    def with_decision(self, decision: Decision) -> Kind:
        """The kind with another decision."""
        other = copy.copy(self)
        other.decision = decision
        return other

    def pairs(self, predictions: Sequence[Prediction], rows: Rows) -> tuple[list[Any], list[Any]]:
        """The predicted and the right values, as the metrics take them."""
        gold = self.gold(rows)
        return [prediction.value for prediction in predictions], gold

    def score(self, predictions: Sequence[Prediction], rows: Rows) -> dict[str, float]:
        """Every metric of the task, the main one first; higher is better for each.

        Raises:
            TaskError: If a row has no right answer, or there is not a prediction for each row.
        """
        where = f"task {self.task!r}"
        if len(predictions) != len(rows):
            raise TaskError(f"{where}: {len(predictions)} predictions for {len(rows)} rows; give one for each")
        predicted, gold = self.pairs(predictions, rows)
        metrics = {name: find_metric(name, self.form, where) for name in self.metric_names()}
        return {name: metric(predicted, gold, self.scored_labels) for name, metric in metrics.items()}

    def lengths(self, features: Sequence[Feature]) -> list[int]:
        """How long each feature is, so that those of a similar length can share a batch."""
        return [len(feature["input_ids"]) for feature in features]

    def with_examples(self, rows: Rows) -> Kind:
        """The kind with some answered rows before each prompt, except in training; itself where it takes none."""
        return self

    def metric_names(self) -> tuple[str, ...]:
        """The metrics of the task, the main one first."""
        return self.spec.metrics or self.metrics

    def generation(self) -> Mapping[str, Any]:
        """Arguments for ``generate``, where the kind generates."""
        return {}

    def asked(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Any]:
        """All that ``generate`` is called with for some features, where the kind generates."""
        batch = self.collate(features, processor, for_model=for_model)
        return {**{key: value for key, value in batch.items() if key != "labels"}, **self.generation()}


kinds: dict[str, type[Kind]] = {}
K = TypeVar("K", bound=type[Kind])


def register(kind: K) -> K:
    """Class decorator that registers a kind under its ``name``, by which a recipe names it."""
    if not kind.name or kind.name in kinds:
        raise TaskError(f"{kind.__name__}: the name {kind.name!r} is empty or taken; choose another")
    kinds[kind.name] = kind
    return kind


def find_kind(spec: TaskSpec, where: str) -> type[Kind]:
    """The class that serves a task; a `TaskError` if its kind is unknown."""
    if spec.kind not in kinds:
        raise TaskError(f"{where}: kind {spec.kind!r} is not known; {nearest(spec.kind, kinds)}")
    return kinds[spec.kind].variant(spec)
