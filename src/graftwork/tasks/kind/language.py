"""What the language-modelling kinds share: plain texts, and a token predicted at some positions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from graftwork.tasks.batches import IGNORED, array, same_count
from graftwork.tasks.cells import Cells
from graftwork.tasks.kind.contract import Feature, Kind
from graftwork.tasks.rows import Prediction, Rows
from graftwork.tasks.scoring.tokens import TOKENS
from graftwork.tasks.tokens import encode, longest


class LanguageKind(Kind):
    """Tokens of plain texts; the texts themselves are the right answers.

    A prediction's ``extra`` has ``tokens``, pairs of the likeliest token and the log-probability of the right one, and
    ``gold``, the right tokens.
    """

    metrics: ClassVar[tuple[str, ...]] = ("token_accuracy", "log_likelihood")
    form: ClassVar[str] = TOKENS
    cuts: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("text",)
    options: ClassVar[frozenset[str]] = frozenset({"max_length"})
    group: ClassVar[str | None] = "text"
    pads_labels: ClassVar[bool] = True

    # the number of positions between the logits and the token that they predict
    ahead: ClassVar[int] = 0

    def read(self, cells: Cells) -> str:
        return cells.text("text")

    def answer(self, cells: Cells) -> str:
        return self.read(cells)

    def features(self, rows: Rows, processor: Any, *, max_length: int | None, train: bool) -> list[Feature]:
        texts = [self.read(cells) for cells in self.cells(rows)]
        # all of a text is for training; a prediction is of its beginning
        found = encode(texts, None, processor, longest(self.spec, max_length, processor), rows, pieces=train)
        return [self.with_labels(feature, processor, train) for feature in found]

    @abstractmethod
    def with_labels(self, feature: Feature, tokenizer: Any, train: bool) -> Feature:
        """A feature with its labels, or with what `collate` makes them of."""

    @abstractmethod
    def value(self, feature: Feature, likeliest: np.ndarray, tokenizer: Any) -> str:
        """The value of a prediction, from the likeliest tokens ``(positions,)``."""

    def reduce(self, logits: Tensor, labels: Tensor | None = None) -> Tensor:
        """The likeliest token of each position and the log-probability of the right one, ``(batch, positions, 2)``.

        Args:
            logits: ``(batch, positions, vocabulary)``.
            labels: ``(batch, positions)``, as the batch has them.
        """
        logits = logits.float()
        chances = torch.full(logits.shape[:2], torch.nan, device=logits.device)
        if labels is not None:
            seen = logits[:, : logits.shape[1] - self.ahead]
            right = labels[:, self.ahead :].clamp(min=0).unsqueeze(-1)
            chances[:, : seen.shape[1]] = seen.log_softmax(-1).gather(-1, right).squeeze(-1)
        return torch.stack([logits.argmax(-1).to(chances.dtype), chances], -1)

    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        same_count(outputs, features)
        same_count(features, rows, "rows")
        return [self._predict(array(one), feature, processor) for one, feature in zip(outputs, features, strict=True)]

    def _predict(self, output: np.ndarray, feature: Feature, tokenizer: Any) -> Prediction:
        labels = feature.get("labels", [IGNORED] * len(feature["input_ids"]))
        if output.shape[-1] != 2:  # logits that `reduce` has not seen
            short = torch.from_numpy(output[: len(labels)]).unsqueeze(0)
            output = self.reduce(short, torch.tensor([labels])).squeeze(0).numpy()
        scored = [n for n in range(self.ahead, len(labels)) if labels[n] != IGNORED]
        pairs = [[int(output[n - self.ahead, 0]), float(output[n - self.ahead, 1])] for n in scored]
        value = self.value(feature, output[: len(labels), 0].astype(int), tokenizer)
        return Prediction(value, extra={"tokens": pairs, "gold": [labels[n] for n in scored]})

    def pairs(self, predictions: Sequence[Prediction], rows: Rows) -> tuple[list[Any], list[Any]]:
        return [one.extra["tokens"] for one in predictions], [one.extra["gold"] for one in predictions]
