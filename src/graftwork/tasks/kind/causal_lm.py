"""The next word of a plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from graftwork.heads import CausalLM, HeadConfig
from graftwork.tasks.batches import IGNORED, pad, pad_tokens, taken
from graftwork.tasks.kind.contract import Feature
from graftwork.tasks.kind.language import LanguageKind
from graftwork.tasks.kind.registry import register


@register
class NextWords(LanguageKind):
    """The next word at every position; a prediction's value is the one behind the text."""

    name: ClassVar[str] = "causal_lm"
    auto: ClassVar[str] = "AutoModelForCausalLM"
    ahead: ClassVar[int] = 1

    def head(self) -> HeadConfig:
        return CausalLM()

    def asked(self, feature: Feature, tokenizer: Any, train: bool) -> Feature:
        return {**feature, "labels": list(feature["input_ids"])}

    def collate(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Tensor]:
        batch = pad_tokens(features, processor)
        batch["labels"] = pad([feature["labels"] for feature in features], IGNORED)
        return taken(batch, for_model)

    def value(self, feature: Feature, likeliest: np.ndarray, tokenizer: Any) -> str:
        return str(tokenizer.decode([int(likeliest[-1])], skip_special_tokens=True))
