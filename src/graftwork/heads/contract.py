"""What a head promises: it reads the base's last hidden states and gives logits, and with labels a loss.

A configuration is a frozen dataclass, pure data, JSON both ways. Its module knows the base through a `Backbone`, and
of the batch through the inputs that the base was called with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.options import Options, is_number, one_of, within

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "gelu": nn.GELU, "relu": nn.ReLU}


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What a head knows of the base.

    Attributes:
        width: Width of the last hidden states (their channels, for a convolutional base).
        dropout: The base's own dropout.
        std: Standard deviation of new weights.
        pooling: How a sequence becomes one vector where a head does not say: the first position of an encoder, the last
            one of a decoder, the mean of an image's channels.
        embeddings: The input embeddings ``(vocabulary, width)``, ``None`` where the base has none.
        has_output: Whether the base computes language-model logits itself.
    """

    width: int
    dropout: float = 0.1
    std: float = 0.02
    pooling: str = "first"
    embeddings: nn.Parameter | None = None
    has_output: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig(Options):
    """Base of the configurations of heads.

    Attributes:
        dropout: In front of each linear layer; by default the base's own.
    """

    kind: ClassVar[str] = ""

    dropout: float | None = None

    def __post_init__(self) -> None:
        if self.dropout is not None:
            within(self, "dropout", 0, 0.999)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels' names, where the head has labels."""
        return tuple(getattr(self, "labels", ()))

    def build(self, base: Backbone) -> Head:
        """The module, untrained.

        Raises:
            ConfigError: If the head does not fit the base.
        """
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values, with the head's kind under ``"head"``."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"head": self.kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}}


class Head(nn.Module):
    """A head's module.

    Attributes:
        config: What it was made by.
        decodes: Whether an encoder-decoder base is to make its decoder's inputs from the labels.
        takes_logits: Whether the base's own logits are asked for, not its hidden states.
    """

    decodes = False
    takes_logits = False

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """The logits.

        Args:
            states: The base's last hidden states ``(batch, positions, width)``, or ``(batch, channels, height, width)``
                of a convolutional base.
            inputs: What the base was called with, for the padding mask.
        """
        raise NotImplementedError

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar of float32 or wider."""
        raise NotImplementedError


def linear(inputs: int, outputs: int, std: float) -> nn.Linear:
    """A linear layer as BERT's heads begin: N(0, std), biases 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


def layers(config: HeadConfig, base: Backbone, outputs: int) -> nn.Sequential:
    """``hidden_layers`` times dropout, linear, activation; then dropout and the linear layer to the outputs."""
    rate = base.dropout if config.dropout is None else config.dropout
    activation = ACTIVATIONS[getattr(config, "activation", "tanh")]
    found: list[nn.Module] = []
    for _ in range(getattr(config, "hidden_layers", 0)):
        found += [nn.Dropout(rate), linear(base.width, base.width, base.std), activation()]
    return nn.Sequential(*found, nn.Dropout(rate), linear(base.width, outputs, base.std))


def own_dtype(layers: nn.Module, values: Tensor) -> Tensor:
    """Values in the dtype of a head's weights: a head is computed in float32 whatever the base is."""
    if torch.is_autocast_enabled(values.device.type):
        return values
    weight = next((p for p in layers.parameters() if p.is_floating_point()), None)
    return values if weight is None else values.to(weight.dtype)


def check_labels(config: HeadConfig, least: int) -> None:
    """Refuse labels that are too few, or two alike; a number of them becomes names.

    Raises:
        ConfigError: If so.
    """
    given = config.labels  # type: ignore[attr-defined]
    if isinstance(given, int) and not isinstance(given, bool):
        object.__setattr__(config, "labels", tuple(f"LABEL_{n}" for n in range(given)))
    elif isinstance(given, (list, tuple)) and all(isinstance(name, str) for name in given):
        object.__setattr__(config, "labels", tuple(given))
    else:
        raise ConfigError(
            f"{type(config).__name__}: labels is {given!r}; give the labels' names, or how many there are"
        )
    labels: tuple[str, ...] = config.labels  # type: ignore[attr-defined]
    if len(labels) < least or len(set(labels)) != len(labels):
        raise ConfigError(
            f"{type(config).__name__}: labels is {list(labels)}; it must be {least} or more names, each once"
        )


def check_layers(config: HeadConfig) -> None:
    """Refuse what is no number of hidden layers, or no activation."""
    within(config, "hidden_layers", 0, 8, whole=True)
    one_of(config, "activation", tuple(ACTIVATIONS))


def check_number(config: HeadConfig, field: str) -> None:
    """Refuse what is no finite number above 0.

    Raises:
        ConfigError: If so.
    """
    value = getattr(config, field)
    if not is_number(value) or value <= 0:
        raise ConfigError(f"{type(config).__name__}: {field} is {value!r}; it must be a number above 0")
