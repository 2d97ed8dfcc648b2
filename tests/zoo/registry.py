"""What a model of the zoo is, and the registry the builders enter themselves in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import nn

Norm = Literal["post", "pre", "parallel"]
AF: tuple[str, ...] = ("attention", "feed_forward")
AXF: tuple[str, ...] = ("attention", "cross_attention", "feed_forward")
WIDTH = 32
VOCAB = 100
PAD = 1


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the published architecture has.

    Attributes:
        stacks: Dotted path of every list of layers to its number of layers and the kinds of each layer, in order.
        norm: ``post`` norms the sum, ``pre`` norms the branch's input, ``parallel`` is ``pre`` with attention and
            feed-forward reading the same stream.
        generates: Whether the model can ``generate``.
        tied_output: Whether the output projection shares the embedding's weight.
    """

    stacks: Mapping[str, tuple[int, tuple[str, ...]]]
    norm: Norm
    generates: bool = False
    tied_output: bool = False


@dataclasses.dataclass
class ZooModel:
    """A tiny model, inputs for it, and what is known about it.

    Attributes:
        name: The name it was built by.
        model: The model, in eval mode.
        inputs: Keyword arguments of one forward pass: two to four rows, text with right padding.
        expected: The published form.
    """

    name: str
    model: nn.Module
    inputs: dict[str, Any]
    expected: Expected


class Unavailable(ImportError):
    """A zoo model needs a library, or a model class, that is not installed. Tests skip with its message."""


Builder = Callable[[torch.Generator], tuple[nn.Module, dict[str, Any], Expected]]
REGISTRY: dict[str, Builder] = {}
TRANSFORMERS: list[str] = []


def register(name: str, *, transformer: bool = True) -> Callable[[Builder], Builder]:
    """Enter a builder under a name. It returns the model, its inputs and its published form."""

    def enter(builder: Builder) -> Builder:
        REGISTRY[name] = builder
        if transformer:
            TRANSFORMERS.append(name)
        return builder

    return enter
