"""One answer a row: classes, several labels at once, numbers. For text and for images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftwork.errors import ConfigError
from graftwork.heads.contract import Backbone, Head, HeadConfig, check_labels, check_layers, layers, own_dtype
from graftwork.heads.pooling import POOLINGS, pool
from graftwork.heads.registry import register
from graftwork.options import flags, is_number, one_of, within


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
        class_weights: How much a row of each label counts in the loss, as torch's weighted cross entropy has it; where one of
            several labels holds.
    """

    kind: ClassVar[str] = "classification"

    labels: int | tuple[str, ...] = 2
    multi_label: bool = False
    hidden_layers: int = 1
    activation: str = "tanh"
    pooling: str | None = None
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        flags(self, "multi_label")
        check_labels(self, 1 if self.multi_label else 2)
        check_layers(self)
        one_of(self, "pooling", (None, *POOLINGS))
        if self.class_weights is not None:
            self._check_weights()

    def _check_weights(self) -> None:
        weights, labels = self.class_weights, len(self.names)
        fits = isinstance(weights, (list, tuple)) and len(weights) == labels and not self.multi_label
        if not fits or not all(is_number(weight) and weight > 0 for weight in weights or ()):
            raise ConfigError(
                f"Classification: class_weights is {weights!r}; it must be a number above 0 for each of {labels} labels, of "
                "which one holds (multi_label=False)"
            )
        object.__setattr__(self, "class_weights", tuple(map(float, weights or ())))

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
    config: Classification | Regression

    def __init__(self, config: Classification | Regression, base: Backbone, outputs: int) -> None:
        super().__init__(config)
        self.pooling = config.pooling or base.pooling
        self.layers: nn.Sequential = layers(config, base, outputs)

    def forward(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        return self.layers(own_dtype(self.layers, pool(states, inputs, self.pooling)))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if isinstance(self.config, Regression):
            return F.mse_loss(logits, labels.to(logits.dtype).view_as(logits))
        if self.config.multi_label:
            return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        given = self.config.class_weights
        # not in a buffer: it is no weight, and would be rounded with the model
        weights = (
            None if given is None else torch.tensor(given, dtype=logits.dtype).to(logits.device, non_blocking=True)
        )
        return F.cross_entropy(logits, labels, weights)
