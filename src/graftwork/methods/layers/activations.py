"""The non-linearities an adapter can have, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.options import one_of

_KNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "gelu_tanh": partial(nn.functional.gelu, approximate="tanh"),
    "silu": nn.functional.silu,
    "leaky_relu": nn.functional.leaky_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "identity": lambda features: features,
}
_SAME = {"gelu_new": "gelu_tanh", "swish": "silu", "linear": "identity"}

ACTIVATIONS: tuple[str, ...] = (*_KNOWN, *_SAME)


def canonical(name: str) -> str:
    """The one name of an activation that has several (``"swish"`` is ``"silu"``).

    Raises:
        ConfigError: If there is no such activation.
    """
    found = _SAME.get(name, name)
    if found not in _KNOWN:
        raise ConfigError(f"activation {name!r} is not known; it is one of {', '.join(ACTIVATIONS)}")
    return found


def settle_activation(config: Any) -> None:
    """Check the option ``activation`` of a configuration, and write its one name."""
    one_of(config, "activation", ACTIVATIONS)
    object.__setattr__(config, "activation", canonical(config.activation))


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The elementwise function of that name.

    Raises:
        ConfigError: If there is no such activation.
    """
    return _KNOWN.get(name) or _KNOWN[canonical(name)]
