"""What the kinds share that read one or two texts and say one thing of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from graftwork.tasks.batches import array, finished, pad_tokens, same_count
from graftwork.tasks.cells import Cells
from graftwork.tasks.kind.contract import Feature, Kind
from graftwork.tasks.prediction import Prediction
from graftwork.tasks.rows import Rows
from graftwork.tasks.tokens import encode, longest, same_pairs, two_texts


class TextKind(Kind):
    """One or two texts, one output ``(outputs,)`` a row."""

    reads: ClassVar[tuple[str, ...]] = ("text",)
    answers: ClassVar[tuple[str, ...]] = ("label",)
    options: ClassVar[frozenset[str]] = frozenset({"pair", "labels", "max_length", "pooling"})
    group: ClassVar[str | None] = "text"

    def read(self, cells: Cells) -> tuple[str, str | None]:
        return two_texts(cells)

    @abstractmethod
    def target(self, cells: Cells) -> Any:
        """What is right as the number or the numbers that are learnt, ``None`` where the row does not say."""

    @abstractmethod
    def predict(self, logits: np.ndarray) -> Prediction:
        """What the logits ``(outputs,)`` of one row say."""

    def features(self, rows: Rows, processor: Any, *, max_length: int | None, train: bool) -> list[Feature]:
        self.check(rows, answered=train)
        cells = self.cells(rows)
        texts = [self.read(cell) for cell in cells]
        limit = longest(self.spec, max_length, processor)
        seconds = same_pairs(rows, texts, self.spec.pair)
        features = encode([text for text, _ in texts], seconds, processor, limit, rows)
        for feature, cell in zip(features, cells, strict=True):
            target = self.target(cell)
            if target is not None:
                feature["labels"] = target
        return features

    def collate(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Tensor]:
        return finished(pad_tokens(features, processor), features, for_model)

    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        same_count(outputs, rows, "rows")
        return [self.predict(array(output).reshape(-1)) for output in outputs]
