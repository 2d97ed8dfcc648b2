"""The next word of a plain text."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from graftwork.heads import CausalLM, HeadConfig
from graftwork.tasks.kind.contract import Feature, register
from graftwork.tasks.kind.language import LanguageKind


@register
class NextWords(LanguageKind):
    """The next word at every position; a prediction's value is the one after the text."""

    name: ClassVar[str] = "causal_lm"
    auto: ClassVar[str] = "AutoModelForCausalLM"
    has_weights: ClassVar[bool] = False
    ahead: ClassVar[int] = 1

    def head(self) -> HeadConfig:
        return CausalLM()

    def with_labels(self, feature: Feature, tokenizer: Any, train: bool) -> Feature:
        return {**feature, "labels": list(feature["input_ids"])}

    def value(self, feature: Feature, likeliest: np.ndarray, tokenizer: Any) -> str:
        return str(tokenizer.decode([int(likeliest[-1])], skip_special_tokens=True))
