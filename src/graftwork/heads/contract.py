"""What a head promises: it reads the base's last hidden states and gives logits, and with labels a loss.

A configuration is a frozen dataclass, pure data, JSON both ways. Its module knows the base through a `Backbone`, and
of the batch the inputs that the base was called with. A configuration that is registered here is saved with an adapter
and made again from its file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.heads.pooling import POOLINGS
from graftwork.named_configs import NamedConfigs
from graftwork.options import Options, one_of, within

IGNORED = -100  # the label that losses ignore
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "gelu": nn.GELU, "relu": nn.ReLU}


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What a head knows of the base.

    Attributes:
        width: Width of the last hidden states (their channels, for a convolutional base).
        dropout: The base's own dropout.
        std: Standard deviation of new weights.
        pooling: How a sequence becomes one vector where the head's configuration leaves it open: the first position of
            an encoder, the last one of a decoder, the mean of an image's channels.
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
        dropout: Dropout before each linear layer; by default the base's own.
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
        """Return the module, untrained.

        Raises:
            ConfigError: If the head does not fit the base.
        """
        raise NotImplementedError

    def counted(self, labels: Tensor) -> float:
        """Return how many labels the loss of some rows is the mean over; their weights, where it is a weighted mean.

        Args:
            labels: Labels as the head's loss takes them.

        Example:
            >>> gw.heads.TokenClassification(labels=3).counted(torch.tensor([[1, 2, -100], [0, -100, -100]]))
            3.0
        """
        return float(labels.numel() if labels.is_floating_point() else (labels != IGNORED).sum())

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON values, with the head's kind under ``"head"``."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"head": self.kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}}


_HEADS: NamedConfigs[HeadConfig] = NamedConfigs("head", "kind", "head kind")

register = _HEADS.register
heads = _HEADS.all
head_from_dict = _HEADS.from_dict


class LayeredConfig(HeadConfig):
    """Base of the configurations of heads made of `Layers`.

    No dataclass: subclasses say where these options are among their own.
    """

    hidden_layers: int
    activation: str

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "hidden_layers", 0, 8, whole=True)
        one_of(self, "activation", tuple(ACTIVATIONS))
        if hasattr(self, "pooling"):
            one_of(self, "pooling", (None, *POOLINGS))


class Head(nn.Module):
    """A head's module.

    Attributes:
        config: The configuration that it was built from.
        decodes: Whether an encoder-decoder base makes its decoder's inputs from the labels.
        takes_logits: Whether `forward` is given the base's own logits, not its hidden states.
    """

    decodes = False
    takes_logits = False

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Return the logits.

        Args:
            states: The base's last hidden states ``(batch, positions, width)``, or ``(batch, channels, height, width)``
                of a convolutional base.
            inputs: The inputs that the base was called with, for the padding mask.
        """
        raise NotImplementedError

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar of float32 or wider."""
        raise NotImplementedError


def linear(inputs: int, outputs: int, std: float) -> nn.Linear:
    """A linear layer that starts as in BERT's heads: N(0, std), biases 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


class Layers(nn.Sequential):
    """``hidden_layers`` times dropout, linear, activation; then dropout and the linear layer to the outputs."""

    def __init__(self, config: LayeredConfig, base: Backbone, outputs: int) -> None:
        rate = base.dropout if config.dropout is None else config.dropout
        found: list[nn.Module] = []
        for _ in range(config.hidden_layers):
            found += [nn.Dropout(rate), linear(base.width, base.width, base.std), ACTIVATIONS[config.activation]()]
        super().__init__(*found, nn.Dropout(rate), linear(base.width, outputs, base.std))

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(own_dtype(self, values))


def own_dtype(layers: nn.Module, values: Tensor) -> Tensor:
    """Values in the dtype of a head's weights: a head is computed in float32 whatever the base is."""
    if torch.is_autocast_enabled(values.device.type):
        return values
    weight = next((p for p in layers.parameters() if p.is_floating_point()), None)
    return values if weight is None else values.to(weight.dtype)


def precise(logits: Tensor) -> Tensor:
    """Logits in float32, or in float64 where they are that: no loss is computed in less."""
    return logits if logits.dtype == torch.float64 else logits.float()


def check_labels(config: HeadConfig, least: int) -> None:
    """Refuse labels that are too few, or two alike; a number of them becomes names.

    Raises:
        ConfigError: If they are.
    """
    given = config.labels  # type: ignore[attr-defined]
    where = f"{type(config).__name__}: labels is"
    if isinstance(given, int) and not isinstance(given, bool):
        labels = tuple(f"LABEL_{n}" for n in range(given))
    elif isinstance(given, (list, tuple)) and all(isinstance(name, str) for name in given):
        labels = tuple(given)
    else:
        raise ConfigError(f"{where} {given!r}; give the labels' names, or how many there are")
    object.__setattr__(config, "labels", labels)
    if len(labels) < least or len(set(labels)) != len(labels):
        raise ConfigError(f"{where} {list(labels)}; it must be {least} or more names, each once")
