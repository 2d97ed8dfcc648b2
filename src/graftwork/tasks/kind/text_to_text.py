"""A text written for a text, by an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from graftwork.heads import HeadConfig, Seq2SeqLM
from graftwork.tasks.batches import array, same_count
from graftwork.tasks.cells import Cells
from graftwork.tasks.kind.contract import Feature, register
from graftwork.tasks.kind.texts import TextKind
from graftwork.tasks.rows import Prediction, Rows
from graftwork.tasks.scoring.texts import TEXT
from graftwork.tasks.tokens import truncation


@register
class Writing(TextKind):
    """A text written for one or two texts, by an encoder-decoder base: its outputs are generated tokens."""

    name: ClassVar[str] = "text_to_text"
    generates: ClassVar[bool] = True
    auto: ClassVar[str] = "AutoModelForSeq2SeqLM"
    has_weights: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ("rougeL", "bleu", "exact_match")
    form: ClassVar[str] = TEXT
    answers: ClassVar[tuple[str, ...]] = ("target",)
    options: ClassVar[frozenset[str]] = frozenset(
        {"pair", "max_length", "max_target_length", "prefix", "num_beams", "max_new_tokens"}
    )
    pads_labels: ClassVar[bool] = True

    def read(self, cells: Cells) -> tuple[str, str | None]:
        text, pair = super().read(cells)
        return (self.spec.prefix or "") + text, pair

    def answer(self, cells: Cells) -> list[str] | None:
        value = cells.get("target")
        if value is None:
            return None
        return [cells.text("target")] if isinstance(value, (str, int, float)) else cells.texts("target")

    def target(self, cells: Cells) -> str | None:
        answer = self.answer(cells)
        return None if answer is None else answer[0]

    def head(self) -> HeadConfig:
        return Seq2SeqLM()

    def generation(self) -> Mapping[str, Any]:
        return {"num_beams": self.spec.num_beams, "max_new_tokens": self.spec.max_new_tokens}

    def features(self, rows: Rows, processor: Any, *, max_length: int | None, train: bool) -> list[Feature]:
        features = super().features(rows, processor, max_length=max_length, train=train)
        options = truncation(self.spec.max_target_length)
        for feature in features:
            if "labels" in feature:
                feature["labels"] = list(processor(text_target=feature["labels"], **options)["input_ids"])
        return features

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
