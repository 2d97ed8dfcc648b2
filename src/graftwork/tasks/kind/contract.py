"""What a kind of task promises: from rows to features, to a batch, and from a model's outputs back to one answer a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from graftwork.errors import TaskError
from graftwork.heads import HeadConfig
from graftwork.tasks.cells import Cells
from graftwork.tasks.prediction import Prediction
from graftwork.tasks.rows import Place, Row, Rows
from graftwork.tasks.spec import TaskSpec

Feature = dict[str, Any]

# What every kind makes use of; the rest is each one's own.
_COMMON = frozenset(
    "kind data train dev test dev_share rows scored_rows metrics language evaluate_in knowledge beside base adapters".split()
)
_SAID = {"description", "prompts"}  # of those that read texts, which a text can be held against


class Kind(ABC):
    """A kind of task, for one task.

    A feature is what a model is given for one row, as Python lists and numbers (images: tensors); some kinds make several
    of one row. Beside the model's inputs and ``"labels"`` it may hold what `decode` needs; `collate` leaves that out.

    Args:
        spec: The task.
        labels: The names of its labels, where it has any.
        name: The task's, for messages.
        numbered: Whether somebody has given the labels' order, so that a label may be written as its number.

    Attributes:
        name: Under which it is registered.
        generates: Whether a model's outputs are generated tokens, not logits.
        auto: The class of transformers that the base is loaded by.
        processor: What makes a model's inputs: a ``"tokenizer"``, or a processor of an ``"image"``.
        metrics: The default ones; the first decides the best epoch.
        form: The form of a prediction's value, which says what metrics there are.
        reads: Roles of the columns that a row must have to be predicted.
        answers: Roles of the columns that it must have besides to be learnt from.
        options: The fields of a `TaskSpec` that it makes use of, beside those that all do and the columns.
        group: Role of the column whose equal values are held out together.
        cuts: Whether what is longer than ``max_length`` tokens is cut off.
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

    def __init__(self, spec: TaskSpec, labels: tuple[str, ...] = (), name: str = "", *, numbered: bool = True) -> None:
        self.spec, self.labels, self.task, self.numbered = spec, labels, name, numbered

    # ------------------------------------------------------------------------------------------- data

    @classmethod
    def columns(cls, spec: TaskSpec, *, train: bool) -> tuple[str, ...]:
        """The columns that a row must have, to be predicted or to be learnt from."""
        roles = cls.reads + (cls.answers if train else ())
        return tuple(getattr(spec, role) for role in roles)

    @classmethod
    def check_spec(cls, name: str, spec: TaskSpec) -> None:
        """Refuse options that would be passed over in silence.

        Raises:
            TaskError: If there are any.
        """
        known = _COMMON | cls.options | set(cls.reads) | set(cls.answers)
        known |= _SAID if cls.processor == "tokenizer" else set()
        unused = sorted(spec.model_fields_set - known)
        if unused:
            raise TaskError(
                f"task {name!r}: {unused[0]} means nothing for {cls.name}; it takes {', '.join(sorted(known))}"
            )

    @classmethod
    def find_labels(cls, name: str, spec: TaskSpec, train: Rows, told: tuple[str, ...] | None) -> tuple[str, ...]:
        """The names of the labels.

        Args:
            name: The task's, for messages.
            spec: The task; its ``labels`` come first.
            train: All rows to learn from.
            told: The names that the data says, if it does.

        Raises:
            TaskError: If they cannot be told.
        """
        return ()

    def typed(self, texts: Sequence[str]) -> Row:
        """A row of texts as one types them: one for each column that is read, a second one where the task has pairs.

        Raises:
            TaskError: If they are too few or too many, saying what is wanted.
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
        """What a row asks, checked.

        Raises:
            TaskError: If the row does not have it.
        """

    @abstractmethod
    def answer(self, cells: Cells) -> Any:
        """What is right for a row, in the form of a prediction's value; ``None`` where the row does not say.

        Raises:
            TaskError: If it is said and cannot be.
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
        """How much a row of each label counts in the loss, in the labels' order; ``None`` where all count alike.

        Args:
            rows: Those that are learnt from.

        Raises:
            TaskError: If the weights that are given do not fit the labels.
        """
        return None

    def labels_of(self, cells: Cells) -> Collection[str]:
        """The labels that a row has, so that each can be held out alike and counted; none where the kind has no labels."""
        return ()

    def check(self, rows: Rows, *, answered: bool) -> None:
        """Read every row once.

        Args:
            rows: The rows.
            answered: Whether each must say what is right.

        Raises:
            TaskError: If one cannot be used.
        """
        for cells in self.cells(rows):
            self.read(cells)
            if self.answer(cells) is None and answered:
                self._unanswered(cells)

    def gold(self, rows: Rows) -> list[Any]:
        """What is right, for each row.

        Raises:
            TaskError: If a row does not say.
        """
        found = []
        for cells in self.cells(rows):
            found.append(self.answer(cells))
            if found[-1] is None:
                self._unanswered(cells)
        return found

    def cells(self, rows: Rows) -> list[Cells]:
        """The rows, to be read by their roles."""
        return [self._cells(row, place) for row, place in rows.placed()]

    def _cells(self, row: Row, place: Place) -> Cells:
        return Cells(row, place, self.spec)

    def _unanswered(self, cells: Cells) -> None:
        for role in self.answers:
            cells.value(role)
        raise cells.wrong(
            self.answers[0], "an answer has to stand there, except in test rows; give one, or take the row out"
        )

    # ------------------------------------------------------------------------------------------- model

    @abstractmethod
    def head(self) -> HeadConfig:
        """The head that gives the logits which `decode` reads."""

    @abstractmethod
    def features(self, rows: Rows, processor: Any, *, max_length: int | None, train: bool) -> list[Feature]:
        """What a model is given for each row, with ``"labels"`` where the row has an answer.

        Args:
            rows: The rows.
            processor: A tokenizer, or a processor of images.
            max_length: In tokens, where the task does not say.
            train: Whether they are to be learnt from; then each row must have an answer.

        Raises:
            TaskError: If a row cannot be used.
        """

    @abstractmethod
    def collate(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Tensor]:
        """Features as one padded batch; ``"labels"`` is one tensor of the shape that the head says.

        Args:
            features: Some of those that `features` made.
            processor: The same one.
            for_model: Keys that its ``forward`` does not take are left out.
        """

    def reduce(self, logits: Tensor, labels: Tensor | None = None) -> Tensor:
        """What `decode` needs of a batch's logits: where they are large, a part of them that is not.

        `decode` takes both; this one saves memory where the outputs of many batches are kept.
        """
        return logits

    @abstractmethod
    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        """One prediction a row.

        Args:
            outputs: For each feature the model's logits, or generated tokens where the kind generates.
            features: What they are the outputs for.
            rows: What the features were made of.
            processor: The same one.
        """

    def pairs(self, predictions: Sequence[Prediction], rows: Rows) -> tuple[list[Any], list[Any]]:
        """What was predicted and what is right, as the metrics take it."""
        gold = self.gold(rows)
        return [prediction.value for prediction in predictions], gold

    def lengths(self, features: Sequence[Feature]) -> list[int]:
        """How long each feature is, so that those of a similar length can share a batch."""
        return [len(feature["input_ids"]) for feature in features]

    def metric_names(self) -> tuple[str, ...]:
        """The metrics of the task, the main one first."""
        return self.spec.metrics or self.metrics

    def generation(self) -> Mapping[str, Any]:
        """Arguments for ``generate``, where the kind generates."""
        return {}
