"""One answer a row: classes, several labels at once, numbers, one of several texts. For text and for images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from graftwork.errors import ConfigError
from graftwork.heads.contract import Backbone, Head, LayeredConfig, Layers, check_labels, precise, register
from graftwork.heads.pooling import pool
from graftwork.options import flags, is_number, within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(LayeredConfig):
    """One of several labels for a row, or any number of them: logits ``(batch, labels)``.

    The labels of a batch are class numbers ``(batch,)``, or with ``multi_label`` zeros and ones ``(batch, labels)``.

    Attributes:
        labels: The labels' names in order, or how many there are.
        multi_label: Whether several can hold at once (a sigmoid each), or exactly one (a softmax).
        hidden_layers: Number of linear layers with an activation before the last one.
        activation: ``"tanh"``, ``"gelu"`` or ``"relu"``.
        pooling: ``"first"``, ``"last"`` or ``"mean"``; by default what suits the base (see `Backbone`).
        class_weights: The weight of each label's rows in the loss, as in torch's weighted cross entropy; not with
            ``multi_label``.

    Example:
        >>> head = gw.heads.Classification(labels=("no", "yes"), class_weights=(1, 3)).build(gw.heads.Backbone(width=32))
        >>> head(torch.rand(4, 7, 32), {}).shape
        torch.Size([4, 2])
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
        weights = self.class_weights
        if weights is None:
            return
        fits = isinstance(weights, (list, tuple)) and len(weights) == len(self.names) and not self.multi_label
        if not fits or not all(is_number(weight) and weight > 0 for weight in weights):
            raise ConfigError(
                f"Classification: class_weights is {weights!r}; it must be a number above 0 for each of {len(self.names)} "
                "labels, of which one holds (multi_label=False)"
            )
        object.__setattr__(self, "class_weights", tuple(map(float, weights)))

    def counted(self, labels: Tensor) -> float:
        if self.class_weights is None:
            return super().counted(labels)
        return float(torch.tensor(self.class_weights, dtype=torch.float64)[labels.cpu()].sum())

    def build(self, base: Backbone) -> Head:
        return _Classifier(self, base, len(self.names))


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(LayeredConfig):
    """One or more numbers for a row, by the mean squared error: logits and labels ``(batch, outputs)``.

    Labels of one output may also be ``(batch,)``.

    Attributes:
        outputs: Number of outputs.
        hidden_layers: Number of linear layers with an activation before the last one.
        activation: ``"tanh"``, ``"gelu"`` or ``"relu"``.
        pooling: ``"first"``, ``"last"`` or ``"mean"``; by default what suits the base (see `Backbone`).

    Example:
        >>> head = gw.heads.Regression().build(gw.heads.Backbone(width=32))
        >>> head(torch.rand(4, 7, 32), {}).shape
        torch.Size([4, 1])
    """

    kind: ClassVar[str] = "regression"

    outputs: int = 1
    hidden_layers: int = 1
    activation: str = "tanh"
    pooling: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "outputs", 1, whole=True)

    def build(self, base: Backbone) -> Head:
        return _Classifier(self, base, self.outputs)


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class MultipleChoice(LayeredConfig):
    """Which of several texts is right: logits ``(batch / choices, choices)``, labels ``(batch / choices,)``.

    Each text has one score, and a softmax goes over those of one question. The choices of a question are consecutive
    rows of the batch, so that every composition, by rows too, sees plain rows.

    Attributes:
        choices: Number of choices of a question.
        hidden_layers: Number of linear layers with an activation before the last one.
        activation: ``"tanh"``, ``"gelu"`` or ``"relu"``.
        pooling: ``"first"``, ``"last"`` or ``"mean"``; by default what suits the base (see `Backbone`).

    Example:
        >>> head = gw.heads.MultipleChoice(choices=4).build(gw.heads.Backbone(width=32))
        >>> head(torch.rand(8, 7, 32), {}).shape
        torch.Size([2, 4])
    """

    kind: ClassVar[str] = "multiple_choice"

    choices: int = 2
    hidden_layers: int = 1
    activation: str = "tanh"
    pooling: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "choices", 2, whole=True)

    def build(self, base: Backbone) -> Head:
        return _Chooser(self, base, 1)


class _Pooled(Head):
    """One vector a row, and the layers."""

    def __init__(self, config: LayeredConfig, base: Backbone, outputs: int) -> None:
        super().__init__(config)
        self.pooling: str = config.pooling or base.pooling  # type: ignore[attr-defined]
        self.layers = Layers(config, base, outputs)

    def forward(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        return self.layers(pool(states, inputs, self.pooling))


class _Classifier(_Pooled):
    config: Classification | Regression

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = precise(logits)
        if isinstance(self.config, Regression):
            return F.mse_loss(logits, labels.to(logits.dtype).view_as(logits))
        if self.config.multi_label:
            return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        weights = None
        if self.config.class_weights is not None:  # no buffer, which would be rounded with the model's weights
            weights = torch.tensor(self.config.class_weights, dtype=logits.dtype).to(logits.device, non_blocking=True)
        return F.cross_entropy(logits, labels, weights)


class _Chooser(_Pooled):
    config: MultipleChoice

    def forward(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        choices = self.config.choices
        if states.shape[0] % choices:
            raise ConfigError(
                f"a multiple-choice head of {choices} choices was given {states.shape[0]} rows; every question needs all its "
                "choices, one row each, one after the other"
            )
        return super().forward(states, inputs).view(-1, choices)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(precise(logits), labels)
