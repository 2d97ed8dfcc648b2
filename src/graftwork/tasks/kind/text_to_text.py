"""A text written for a text, by an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from graftwork.heads import HeadConfig, Seq2SeqLM
from graftwork.tasks.batches import array, finished, pad_tokens, same_count
from graftwork.tasks.cells import Cells
from graftwork.tasks.kind.contract import Feature, Kind
from graftwork.tasks.kind.registry import register
from graftwork.tasks.prediction import Prediction
from graftwork.tasks.rows import Rows
from graftwork.tasks.scoring.texts import TEXT
from graftwork.tasks.tokens import encode, longest, same_pairs, two_texts


@register
class Writing(Kind):
    """A text written for one or two texts, by an encoder-decoder base: its outputs are generated tokens."""

    name: ClassVar[str] = "text_to_text"
    generates: ClassVar[bool] = True
    auto: ClassVar[str] = "AutoModelForSeq2SeqLM"
    metrics: ClassVar[tuple[str, ...]] = ("rougeL", "bleu", "exact_match")
    form: ClassVar[str] = TEXT
    reads: ClassVar[tuple[str, ...]] = ("text",)
    answers: ClassVar[tuple[str, ...]] = ("target",)
    options: ClassVar[frozenset[str]] = frozenset(
        {"pair", "max_length", "max_target_length", "prefix", "num_beams", "max_new_tokens"}
    )
    group: ClassVar[str | None] = "text"

    def read(self, cells: Cells) -> tuple[str, str | None]:
        text, pair = two_texts(cells)
        return (self.spec.prefix or "") + text, pair

    def answer(self, cells: Cells) -> list[str] | None:
        value = cells.get("target")
        if value is None:
            return None
        return [cells.text("target")] if isinstance(value, (str, int, float)) else cells.texts("target")

    def head(self) -> HeadConfig:
        return Seq2SeqLM()

    def generation(self) -> Mapping[str, Any]:
        return {"num_beams": self.spec.num_beams, "max_new_tokens": self.spec.max_new_tokens}

    def features(self, rows: Rows, processor: Any, *, max_length: int | None, train: bool) -> list[Feature]:
        self.check(rows, answered=train)
        cells = self.cells(rows)
        texts = [self.read(cell) for cell in cells]
        seconds = same_pairs(rows, texts, self.spec.pair)
        limit = longest(self.spec, max_length, processor)
        features = encode([text for text, _ in texts], seconds, processor, limit, rows)
        for feature, cell in zip(features, cells, strict=True):
            answer = self.answer(cell)
            if answer is not None:
                feature["labels"] = self._target(answer[0], processor)
        return features

    def _target(self, text: str, tokenizer: Any) -> list[int]:
        limit = self.spec.max_target_length
        cut = {"truncation": True, "max_length": limit} if limit is not None else {}
        return list(tokenizer(text_target=text, **cut)["input_ids"])

    def collate(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Tensor]:
        return finished(pad_tokens(features, processor), features, for_model, padded=True)

    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        same_count(outputs, rows, "rows")
        return [Prediction(self._text(array(output), processor)) for output in outputs]

    def _text(self, output: Any, tokenizer: Any) -> str:
        # logits, of targets that were given, are read as their likeliest tokens
        tokens = output.argmax(-1) if output.ndim == 2 else output
        written = [int(token) for token in tokens if token >= 0]
        return str(tokenizer.decode(written, skip_special_tokens=True)).strip()
