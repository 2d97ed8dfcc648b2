"""A tag for every word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from graftwork.errors import TaskError
from graftwork.heads import HeadConfig, TokenClassification
from graftwork.tasks.batches import IGNORED, array, same_count, softmax
from graftwork.tasks.cells import Cells
from graftwork.tasks.kind.contract import Feature, Kind, register
from graftwork.tasks.label_names import enough, names_in, resolve
from graftwork.tasks.rows import Prediction, Row, Rows
from graftwork.tasks.scoring.tokens import TAGS
from graftwork.tasks.spec import TaskSpec
from graftwork.tasks.tokens import longest, require_fast, truncation

OUTSIDE = "O"


@register
class Tagging(Kind):
    """A tag for every word, as BIO or any other; the tag of a word is that of its first token.

    Words that are cut off, or that have no tokens, are predicted as ``"O"``.
    """

    name: ClassVar[str] = "tagging"
    form: ClassVar[str] = TAGS
    reads: ClassVar[tuple[str, ...]] = ("tokens",)
    answers: ClassVar[tuple[str, ...]] = ("tags",)
    options: ClassVar[frozenset[str]] = frozenset({"labels", "max_length"})
    group: ClassVar[str | None] = "tokens"
    pads_labels: ClassVar[bool] = True

    def metric_names(self) -> tuple[str, ...]:
        entities = any(name.startswith(("B-", "I-")) for name in self.labels)
        return self.spec.metrics or (("entity_f1", "tag_accuracy") if entities else ("tag_accuracy",))

    @classmethod
    def find_labels(
        cls, name: str, spec: TaskSpec, train: Rows, data_labels: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        names = spec.labels or data_labels or names_in(train, spec, "tags", lambda cells: _words(cells, "tags"))
        return enough(names, 2, f"task {name!r}")

    def typed(self, texts: Sequence[str]) -> Row:
        """Words with spaces between them, in one text or one each."""
        return {self.spec.tokens: [word for text in texts for word in text.split()]}

    def read(self, cells: Cells) -> list[str]:
        words = _words(cells, "tokens")
        for number, word in enumerate(words, 1):
            if not isinstance(word, str):
                raise cells.wrong("tokens", f"word {number}, {word!r}, must be a text; write it in quotes")
        return words

    def answer(self, cells: Cells) -> list[str] | None:
        if cells.get("tags") is None:
            return None
        tags, words = _words(cells, "tags"), self.read(cells)
        if len(tags) != len(words):
            raise cells.wrong("tags", f"{len(tags)} tags for {len(words)} words; give one tag a word")
        return [self.labels[resolve(tag, self.labels, cells, "tags", self.numbered)] for tag in tags]

    def labels_of(self, cells: Cells) -> set[str]:
        return set(self.answer(cells) or ())

    def head(self) -> HeadConfig:
        return TokenClassification(labels=self.labels)

    def features(self, rows: Rows, processor: Any, *, max_length: int | None, train: bool) -> list[Feature]:
        self.check(rows, answered=train)
        require_fast(processor, "tagging")
        limit = longest(self.spec, max_length, processor)
        return [self._feature(cells, processor, limit) for cells in self.cells(rows)]

    def _feature(self, cells: Cells, tokenizer: Any, limit: int | None) -> Feature:
        words, tags = self.read(cells), self.answer(cells)
        try:
            tokens = tokenizer(words, is_split_into_words=True, **truncation(limit))
        except AssertionError as error:  # what transformers 4 says of byte-level tokenizers
            raise TaskError(f"{error}: load the tokenizer with add_prefix_space=True") from error
        feature = {key: tokens[key] for key in tokens}
        first: dict[int, int] = {}
        for position, word in enumerate(tokens.word_ids()):
            if word is not None:
                first.setdefault(word, position)
        feature["words"] = [first.get(word, -1) for word in range(len(words))]
        if tags is not None:
            feature["labels"] = [IGNORED] * len(feature["input_ids"])
            for position, tag in zip(feature["words"], tags, strict=True):
                if position >= 0:
                    feature["labels"][position] = self.labels.index(tag)
        return feature

    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        same_count(outputs, features)
        same_count(features, rows, "rows")
        return [self._tags(softmax(array(output)), feature) for output, feature in zip(outputs, features, strict=True)]

    def _tags(self, chances: Any, feature: Feature) -> Prediction:
        positions = feature["words"]
        tags = [OUTSIDE if at < 0 else self.labels[int(chances[at].argmax())] for at in positions]
        highest = [None if at < 0 else float(chances[at].max()) for at in positions]
        return Prediction(tags, extra={"probability": highest})


def _words(cells: Cells, role: str) -> list[Any]:
    """A list of words or tags; a table has them as JSON or with spaces between."""
    value = cells.value(role)
    if isinstance(value, str) and value.strip() and not value.lstrip().startswith("["):
        return value.split()
    return cells.several(role)
