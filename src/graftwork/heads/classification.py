"""One answer a row: classes, several labels at once, numbers. For text and for images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from graftwork.heads.contract import Backbone, Head, HeadConfig, check_labels, check_layers, layers, own_dtype
from graftwork.heads.pooling import POOLINGS, pool
from graftwork.heads.registry import register
from graftwork.options import flags, one_of, within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(HeadConfig):
    """One of several labels for a row, or any number of them: logits ``(batch, labels)``.

    The labels of a batch are class numbers ``(batch,)``, or with ``multi_label`` zeros and ones ``(batch, labels)``.

    Attributes:
        labels: The labels' names in order, or how many there are.
        multi_label: Whether several can hold at once (a sigmoid each), or exactly one (a softmax).
        hidden_layers: Linear layers with an activation in front of the last one.
        activation: ``"tanh"``, ``"gelu"`` or ``"relu"``.
        pooling: ``"first"``, ``"last"`` or ``"mean"``; by default what suits the base (see `Backbone`).
    """

    kind: ClassVar[str] = "classification"

    labels: int | tuple[str, ...] = 2
    multi_label: bool = False
    hidden_layers: int = 1
    activation: str = "tanh"
    pooling: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        flags(self, "multi_label")
        check_labels(self, 1 if self.multi_label else 2)
        check_layers(self)
        one_of(self, "pooling", (None, *POOLINGS))

    def build(self, base: Backbone) -> Head:
        return _Classifier(self, base, len(self.names))


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(HeadConfig):
    """One or more numbers for a row, by the mean squared error: logits and labels ``(batch, outputs)``.

    Labels of one output may also be ``(batch,)``.

    Attributes:
        outputs: How many numbers.
        hidden_layers: Linear layers with an activation in front of the last one.
        activation: ``"tanh"``, ``"gelu"`` or ``"relu"``.
        pooling: ``"first"``, ``"last"`` or ``"mean"``; by default what suits the base (see `Backbone`).
    """

    kind: ClassVar[str] = "regression"

    outputs: int = 1
    hidden_layers: int = 1
    activation: str = "tanh"
    pooling: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "outputs", 1, whole=True)
        check_layers(self)
        one_of(self, "pooling", (None, *POOLINGS))

    def build(self, base: Backbone) -> Head:
        return _Classifier(self, base, self.outputs)


class _Classifier(Head):
    def __init__(self, config: Classification | Regression, base: Backbone, outputs: int) -> None:
        super().__init__(config)
        self.pooling = config.pooling or base.pooling
        self.layers: nn.Sequential = layers(config, base, outputs)

    def forward(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        return self.layers(own_dtype(self.layers, pool(states, inputs, self.pooling)))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits.float()
        if isinstance(self.config, Regression):
            return F.mse_loss(logits, labels.to(logits.dtype).view_as(logits))
        if getattr(self.config, "multi_label", False):
            return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        return F.cross_entropy(logits, labels)
