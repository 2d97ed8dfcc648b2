"""Masked, causal and sequence-to-sequence language modelling, tied to the base's own embeddings.

The tied matrix belongs to the base: the head refers to it, and neither copies, saves nor trains it. A base that computes
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
from graftwork.heads.contract import Backbone, Head, HeadConfig, linear, own_dtype, precise, register
from graftwork.heads.tokens import mean_cross_entropy
from graftwork.options import is_number


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Language(HeadConfig):
    """Base of the configurations of language-model heads.

    Attributes:
        scale: Factor on the states before the tied matrix; T5 ties its embeddings with ``width ** -0.5``.
        bias: Whether each word of the vocabulary has a trainable bias.
    """

    scale: float = 1.0
    bias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_number(self.scale) or self.scale <= 0:
            raise ConfigError(f"{type(self).__name__}: scale is {self.scale!r}; it must be a number above 0")

    def build(self, base: Backbone) -> Head:
        return _Words(self, base)


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLM(_Language):
    """The words at masked positions: logits ``(batch, positions, vocabulary)``, labels ``(batch, positions)``.

    Labels are -100 where no word is masked. As in BERT's head: linear, GELU, layer norm, then the tied matrix and a bias.

    Attributes:
        bias: Whether each word of the vocabulary has a trainable bias.

    Example:
        >>> base = gw.heads.Backbone(width=32, embeddings=model.get_input_embeddings().weight)
        >>> gw.heads.MaskedLM().build(base)(torch.rand(4, 7, 32), {}).shape
        torch.Size([4, 7, 50])
    """

    kind: ClassVar[str] = "masked_lm"

    bias: bool = True


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalLM(_Language):
    """The next word: logits ``(batch, positions, vocabulary)``; labels are the input's own tokens, -100 where padded.

    Example:
        >>> base = gw.heads.Backbone(width=32, embeddings=model.get_input_embeddings().weight)
        >>> gw.heads.CausalLM().build(base)(torch.rand(4, 7, 32), {}).shape
        torch.Size([4, 7, 50])
    """

    kind: ClassVar[str] = "causal_lm"

    def counted(self, labels: Tensor) -> float:
        return super().counted(labels[:, 1:])


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Seq2SeqLM(_Language):
    """Text to text: logits ``(batch, target positions, vocabulary)``; labels are the target's tokens, -100 where padded.

    The decoder's inputs are made from the labels where the call has none.

    Example:
        >>> base = gw.heads.Backbone(width=32, embeddings=model.get_input_embeddings().weight)
        >>> gw.heads.Seq2SeqLM(scale=32**-0.5).build(base)(torch.rand(4, 7, 32), {}).shape
        torch.Size([4, 7, 50])
    """

    kind: ClassVar[str] = "seq2seq_lm"


class _Words(Head):
    config: _Language

    def __init__(self, config: _Language, base: Backbone) -> None:
        super().__init__(config)
        self.decodes = isinstance(config, Seq2SeqLM)
        self.takes_logits = base.has_output
        if base.has_output:
            return
        if base.embeddings is None:
            raise ConfigError(f"{type(config).__name__} is tied to the base's input embeddings, and this base has none")
        # in the __dict__: the base's weight is the base's, no parameter of the head
        self.__dict__["tied"] = base.embeddings
        words, width = base.embeddings.shape
        if width != base.width:
            raise ConfigError(
                f"{type(config).__name__} is tied to embeddings of width {width}, and the base's states are {base.width} wide"
            )
        if isinstance(config, MaskedLM):
            self.transform = nn.Sequential(linear(width, width, base.std), nn.GELU(), nn.LayerNorm(width))
        if config.bias:
            self.bias = nn.Parameter(torch.zeros(words))

    def forward(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        if self.takes_logits:
            return states
        if isinstance(self.config, MaskedLM):
            states = self.transform(own_dtype(self.transform, states))
        tied: Tensor = self.__dict__["tied"]
        logits = F.linear(states.to(tied.dtype) * self.config.scale, tied)
        return logits + self.bias.to(logits.dtype) if self.config.bias else logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if isinstance(self.config, CausalLM):
            logits, labels = logits[:, :-1], labels[:, 1:]
        return mean_cross_entropy(precise(logits), labels)
