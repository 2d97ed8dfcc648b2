"""The words at masks."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from graftwork.errors import TaskError
from graftwork.heads import HeadConfig, MaskedLM
from graftwork.tasks.batches import IGNORED, labelled
from graftwork.tasks.kind.contract import Feature, register
from graftwork.tasks.kind.language import LanguageKind

SHARE = 0.15
MASKED, RANDOM = 0.8, 0.1


@register
class MaskedWords(LanguageKind):
    """The words at masks, as BERT is trained on them; a prediction's value is the text with its masks filled in.

    15 % of the tokens, at least one, are predicted; of those 80 % are masked, 10 % replaced at random, 10 % left. For
    training this is drawn anew for every batch, from torch's random state; otherwise it depends on the text alone, so that
    scores can be compared.
    """

    name: ClassVar[str] = "masked_lm"
    auto: ClassVar[str] = "AutoModelForMaskedLM"

    def head(self) -> HeadConfig:
        return MaskedLM()

    def with_labels(self, feature: Feature, tokenizer: Any, train: bool) -> Feature:
        if tokenizer.mask_token_id is None:
            raise TaskError(
                f"task {self.task!r}: masked_lm needs a mask, and {type(tokenizer).__name__} has none; "
                "choose a base that was trained with masks, or kind = 'causal_lm'"
            )
        if train:
            return feature
        text = ",".join(map(str, feature["input_ids"]))
        return _masked(feature, tokenizer, random.Random(zlib.crc32(text.encode())))

    def collate(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Tensor]:
        if not labelled(features):
            draw = random.Random(int(torch.randint(2**62, ()).item()))
            features = [one if "labels" in one else _masked(one, processor, draw) for one in features]
        return super().collate(features, processor, for_model=for_model)

    def value(self, feature: Feature, likeliest: np.ndarray, tokenizer: Any) -> str:
        mask = tokenizer.mask_token_id
        filled = [likeliest[n] if token == mask else token for n, token in enumerate(feature["input_ids"])]
        return str(tokenizer.decode([int(token) for token in filled], skip_special_tokens=True))


def _masked(feature: Feature, tokenizer: Any, draw: random.Random) -> Feature:
    tokens, special = list(feature["input_ids"]), set(tokenizer.all_special_ids)
    words = [n for n, token in enumerate(tokens) if token not in special]
    labels = [IGNORED] * len(tokens)
    for n in draw.sample(words, min(max(1, round(SHARE * len(words))), len(words))):
        labels[n] = tokens[n]
        chance = draw.random()
        if chance < MASKED:
            tokens[n] = tokenizer.mask_token_id
        elif chance < MASKED + RANDOM:
            tokens[n] = draw.randrange(len(tokenizer))
    return {**feature, "input_ids": tokens, "labels": labels}
