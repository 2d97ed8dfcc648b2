"""Which of several texts is right: one score a text, a softmax over those that belong together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from graftwork.errors import ConfigError
from graftwork.heads.contract import Backbone, Head, HeadConfig, check_layers, layers, own_dtype
from graftwork.heads.pooling import POOLINGS, pool
from graftwork.heads.registry import register
from graftwork.options import one_of, within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class MultipleChoice(HeadConfig):
    """Which of several choices is right: logits ``(batch / choices, choices)``, labels ``(batch / choices,)``.

    The choices of a question are rows of the batch, one behind the other: every composition, by rows too, sees plain
    rows.

    Attributes:
        choices: How many a question has.
        hidden_layers: Linear layers with an activation in front of the last one.
        activation: ``"tanh"``, ``"gelu"`` or ``"relu"``.
        pooling: ``"first"``, ``"last"`` or ``"mean"``; by default what suits the base (see `Backbone`).
    """

    kind: ClassVar[str] = "multiple_choice"

    choices: int = 2
    hidden_layers: int = 1
    activation: str = "tanh"
    pooling: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "choices", 2, whole=True)
        check_layers(self)
        one_of(self, "pooling", (None, *POOLINGS))

    def build(self, base: Backbone) -> Head:
        return _Chooser(self, base)


class _Chooser(Head):
    config: MultipleChoice

    def __init__(self, config: MultipleChoice, base: Backbone) -> None:
        super().__init__(config)
        self.pooling = config.pooling or base.pooling
        self.layers = layers(config, base, 1)

    def forward(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        if states.shape[0] % self.config.choices:
            raise ConfigError(
                f"a multiple-choice head of {self.config.choices} choices was given {states.shape[0]} rows; every question "
                "needs all its choices, one row each, one behind the other"
            )
        scores = self.layers(own_dtype(self.layers, pool(states, inputs, self.pooling)))
        return scores.view(-1, self.config.choices)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), labels)
