"""An answer at every position: labels of tokens, and the two ends of an answer in its context."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from graftwork.heads.contract import IGNORED, Backbone, Head, LayeredConfig, Layers, check_labels, precise, register


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenClassification(LayeredConfig):
    """One of several labels for every token: logits ``(batch, positions, labels)``, labels ``(batch, positions)``.

    Positions labelled -100 (padding, the later pieces of a word) do not count.

    Attributes:
        labels: The labels' names in order, or how many there are.
        hidden_layers: Number of linear layers with an activation before the last one.
        activation: ``"tanh"``, ``"gelu"`` or ``"relu"``.

    Example:
        >>> head = gw.heads.TokenClassification(labels=5).build(gw.heads.Backbone(width=32))
        >>> head(torch.rand(4, 7, 32), {}).shape
        torch.Size([4, 7, 5])
    """

    kind: ClassVar[str] = "token_classification"

    labels: int | tuple[str, ...] = 2
    hidden_layers: int = 0
    activation: str = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_labels(self, 2)

    def build(self, base: Backbone) -> Head:
        return _Tagger(self, base, len(self.names))


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionAnswering(LayeredConfig):
    """Where the answer starts and ends in its context (extractive, as in SQuAD): logits ``(batch, positions, 2)``.

    Labels are ``(batch, 2)``: the positions of the first and of the last token of the answer; (0, 0) where it has none,
    -100 where the row does not count.

    Attributes:
        hidden_layers: Number of linear layers with an activation before the last one.
        activation: ``"tanh"``, ``"gelu"`` or ``"relu"``.

    Example:
        >>> head = gw.heads.QuestionAnswering().build(gw.heads.Backbone(width=32))
        >>> head(torch.rand(4, 7, 32), {}).shape
        torch.Size([4, 7, 2])
    """

    kind: ClassVar[str] = "question_answering"

    hidden_layers: int = 0
    activation: str = "tanh"

    def build(self, base: Backbone) -> Head:
        return _Tagger(self, base, 2)


class _Tagger(Head):
    def __init__(self, config: LayeredConfig, base: Backbone, outputs: int) -> None:
        super().__init__(config)
        self.layers = Layers(config, base, outputs)

    def forward(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        logits = self.layers(states)
        mask = inputs.get("attention_mask")
        if isinstance(self.config, QuestionAnswering) and isinstance(mask, Tensor) and mask.shape == states.shape[:2]:
            # padding is no candidate: a longer batch must not change a row's softmax over positions
            logits = logits.masked_fill(mask.unsqueeze(-1) == 0, torch.finfo(logits.dtype).min)
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = precise(logits)
        return mean_cross_entropy(logits.mT if isinstance(self.config, QuestionAnswering) else logits, labels)


def mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over all labels that count; 0, with a gradient of 0, where none does."""
    total = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)
