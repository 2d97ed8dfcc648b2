"""Words: masked, causal and sequence-to-sequence language modelling, tied to the base's own embeddings.

The tied matrix belongs to the base: it is referred to, never copied, saved or trained with the head. A base that computes
logits itself (an AutoModelForCausalLM, say) keeps its own output layer, and the head adds nothing to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftwork.errors import ConfigError
from graftwork.heads.contract import Backbone, Head, HeadConfig, check_number, linear
from graftwork.heads.registry import register
from graftwork.heads.tokens import mean_cross_entropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Language(HeadConfig):
    """What language-model heads share.

    Attributes:
        scale: Factor on the states in front of the tied matrix; T5 ties its embeddings with ``width ** -0.5``.
        bias: Whether each word of the vocabulary has a bias that learns.
    """

    scale: float = 1.0
    bias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "scale")


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLM(_Language):
    """The words behind masks: logits ``(batch, positions, vocabulary)``; labels the same without vocabulary, else -100.

    As BERT's head: linear, GELU, layer norm, then the tied matrix and a bias.

    Attributes:
        bias: Whether each word of the vocabulary has a bias that learns.
    """

    kind: ClassVar[str] = "masked_lm"

    bias: bool = True

    def build(self, base: Backbone) -> Head:
        return _Words(self, base, transform=True)


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalLM(_Language):
    """The next word: logits ``(batch, positions, vocabulary)``; labels are the input's own tokens, -100 where padded."""

    kind: ClassVar[str] = "causal_lm"

    def build(self, base: Backbone) -> Head:
        return _Words(self, base)


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Seq2SeqLM(_Language):
    """Text to text: logits ``(batch, target positions, vocabulary)``; labels are the target's tokens, -100 where padded.

    The decoder's inputs are made from the labels where they are not given.
    """

    kind: ClassVar[str] = "seq2seq_lm"

    def build(self, base: Backbone) -> Head:
        return _Words(self, base)


class _Words(Head):
    config: _Language

    def __init__(self, config: _Language, base: Backbone, transform: bool = False) -> None:
        super().__init__(config)
        self.decodes = isinstance(config, Seq2SeqLM)
        self.takes_logits = base.has_output
        if base.has_output:
            return
        if base.embeddings is None:
            raise ConfigError(f"{type(config).__name__} is tied to the base's input embeddings, and this base has none")
        # in the __dict__: the base's weight is the base's, no parameter of the head
        self.__dict__["tied"] = base.embeddings
        width = base.embeddings.shape[1]
        if width != base.width:
            raise ConfigError(
                f"{type(config).__name__} is tied to embeddings of width {width}, and the base's states are {base.width} wide"
            )
        if transform:
            self.transform = nn.Sequential(linear(width, width, base.std), nn.GELU(), nn.LayerNorm(width))
        if config.bias:
            self.bias = nn.Parameter(torch.zeros(base.embeddings.shape[0]))

    def forward(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        if self.takes_logits:
            return states
        if hasattr(self, "transform"):
            weight = self.transform[0].weight
            assert isinstance(weight, Tensor)
            states = self.transform(
                states if torch.is_autocast_enabled(states.device.type) else states.to(weight.dtype)
            )
        tied: Tensor = self.__dict__["tied"]
        logits = F.linear(states.to(tied.dtype) * self.config.scale, tied)
        bias: Tensor | None = getattr(self, "bias", None)
        return logits if bias is None else logits + bias.to(logits.dtype)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if isinstance(self.config, CausalLM):
            logits, labels = logits[:, :-1], labels[:, 1:]
        return mean_cross_entropy(logits.float(), labels)
