"""What the kinds share that read one or two texts and give one output."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from graftwork.errors import TaskError
from graftwork.tasks.cells import Cells
from graftwork.tasks.kind.contract import Feature, Kind
from graftwork.tasks.rows import Rows
from graftwork.tasks.tokens import encode, longest, two_texts


class TextKind(Kind):
    """One or two texts, one output a row."""

    reads: ClassVar[tuple[str, ...]] = ("text",)
    answers: ClassVar[tuple[str, ...]] = ("label",)
    options: ClassVar[frozenset[str]] = frozenset({"pair", "labels", "max_length", "pooling"})
    group: ClassVar[str | None] = "text"

    def read(self, cells: Cells) -> tuple[str, str | None]:
        return two_texts(cells)

    @abstractmethod
    def target(self, cells: Cells) -> Any:
        """The right answer in the form of a feature's labels, ``None`` where the row has none."""

    def features(self, rows: Rows, processor: Any, *, max_length: int | None, train: bool) -> list[Feature]:
        self.check(rows, answered=train)
        cells = self.cells(rows)
        texts = [self.read(cell) for cell in cells]
        pairs = [pair for _, pair in texts if pair is not None]
        if pairs and len(pairs) < len(texts):
            without = next(n for n, (_, pair) in enumerate(texts) if pair is None)
            raise TaskError(
                f"{rows.place(without)}: no second text in {self.spec.pair!r}, and other rows have one; give it to every row "
                "or to none"
            )
        limit = longest(self.spec, max_length, processor)
        features = encode([text for text, _ in texts], pairs or None, processor, limit, rows)
        for feature, cell in zip(features, cells, strict=True):
            target = self.target(cell)
            if target is not None:
                feature["labels"] = target
        return features
