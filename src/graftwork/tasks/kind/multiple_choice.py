"""Which of several texts is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from graftwork.errors import TaskError
from graftwork.heads import HeadConfig, MultipleChoice
from graftwork.tasks.batches import array, finished, pad_tokens, same_count, softmax
from graftwork.tasks.cells import Cells
from graftwork.tasks.kind.contract import Feature, Kind, register
from graftwork.tasks.label_names import missing
from graftwork.tasks.rows import Place, Prediction, Row, Rows
from graftwork.tasks.scoring.labels import CHOICE
from graftwork.tasks.spec import TaskSpec
from graftwork.tasks.tokens import encode, longest, two_texts


@register
class Choosing(Kind):
    """Which of several choices fits a text; a prediction's value is the number of the choice, from 0.

    A second text, such as a question, is put before each choice. The labels are the choices' numbers.
    """

    name: ClassVar[str] = "multiple_choice"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    form: ClassVar[str] = CHOICE
    reads: ClassVar[tuple[str, ...]] = ("text", "choices")
    answers: ClassVar[tuple[str, ...]] = ("label",)
    options: ClassVar[frozenset[str]] = frozenset({"pair", "max_length", "pooling"})
    group: ClassVar[str | None] = "text"

    @classmethod
    def find_labels(
        cls, name: str, spec: TaskSpec, train: Rows, data_labels: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        first = Cells(train[0], train.place(0), spec)
        choices = first.texts("choices")
        if len(choices) < 2:
            raise first.wrong("choices", "one choice is none; give two or more")
        return tuple(map(str, range(len(choices))))

    def typed(self, texts: Sequence[str]) -> Row:
        """The text, then its choices."""
        if len(texts) != 1 + len(self.labels):
            raise TaskError(
                f"task {self.task!r} is asked with the {self.spec.text} and then its {len(self.labels)} choices; given are "
                f"{len(texts)} texts"
            )
        return {self.spec.text: texts[0], str(self.spec.choices): list(texts[1:])}

    def read(self, cells: Cells) -> tuple[str, list[str]]:
        text, pair = two_texts(cells)
        choices = cells.texts("choices")
        if len(choices) != len(self.labels):
            ways = f"{len(choices)} choices, and the first train row has {len(self.labels)}; give each row as many"
            raise cells.wrong("choices", ways)
        return text, choices if pair is None else [f"{pair} {choice}" for choice in choices]

    def answer(self, cells: Cells) -> int | None:
        value = cells.get("label")
        choices = cells.texts("choices")
        if value in choices and choices.count(value) == 1:
            return choices.index(value)
        if missing(value):
            return None
        number = cells.number("label")
        if number not in range(len(self.labels)):
            raise cells.wrong("label", f"it must be the number of a choice, 0 to {len(self.labels) - 1}, or its text")
        return int(number)

    def head(self) -> HeadConfig:
        return MultipleChoice(choices=len(self.labels), pooling=self.spec.pooling)

    def features(self, rows: Rows, processor: Any, *, max_length: int | None, train: bool) -> list[Feature]:
        self.check(rows, answered=train)
        limit = longest(self.spec, max_length, processor)
        return [self._feature(n, cells, rows, processor, limit) for n, cells in enumerate(self.cells(rows))]

    def _feature(self, n: int, cells: Cells, rows: Rows, tokenizer: Any, limit: int | None) -> Feature:
        text, choices = self.read(cells)
        several = encode([text] * len(choices), choices, tokenizer, limit, rows.take([n] * len(choices)))
        feature: Feature = {key: [one[key] for one in several] for key in several[0]}
        answer = self.answer(cells)
        return feature if answer is None else {**feature, "labels": answer}

    def collate(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Tensor]:
        choices = [
            {key: feature[key][choice] for key in feature if key != "labels"}
            for feature in features
            for choice in range(len(feature["input_ids"]))
        ]
        return finished(pad_tokens(choices, processor), features, for_model)

    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        same_count(outputs, rows, "rows")
        return [self._predict(array(output).reshape(-1), rows.place(n)) for n, output in enumerate(outputs)]

    def _predict(self, logits: Any, place: Place) -> Prediction:
        if len(logits) != len(self.labels):
            raise TaskError(
                f"{place}: {len(logits)} logits for {len(self.labels)} choices; cut them out question by question"
            )
        chances = softmax(logits)
        return Prediction(int(chances.argmax()), dict(zip(self.labels, chances.tolist(), strict=True)))

    def lengths(self, features: Sequence[Feature]) -> list[int]:
        return [max(map(len, feature["input_ids"])) for feature in features]
