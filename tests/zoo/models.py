"""The zoo: named tiny models with random weights, built without a network.

``build("bert")`` returns the model in eval mode, inputs for one forward pass, and what is known about its layers from
the published architecture. Nothing here looks at what graftwork finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from tests.zoo import (  # noqa: F401  # the builders register themselves
    convolutional,
    decoders,
    encoder_decoders,
    encoders,
    other,
    vision,
)
from tests.zoo.registry import REGISTRY, TRANSFORMERS, Expected, Unavailable, ZooModel

__all__ = [
    "Expected",
    "Unavailable",
    "ZooModel",
    "build",
    "build_or_skip",
    "cast_inputs",
    "clone_inputs",
    "main_output",
    "names",
    "runs_in_double",
]


def build(name: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> ZooModel:
    """A fresh copy of a model of the zoo: the same name, dtype and seed give the same weights and inputs.

    Every parameter is moved off its initial value, so that no bias is zero, no norm is the identity and no branch is
    too small to see. The global random state is as it was.

    Raises:
        KeyError: If no model has this name.
        Unavailable: If what it needs is not installed.
    """
    if dtype is torch.float64 and not runs_in_double(name):
        raise Unavailable("CLIP of transformers 4 makes a mask that overflows in double precision")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, inputs, expected = REGISTRY[name](torch.Generator().manual_seed(seed + 1))
        _unsettle(model, torch.Generator().manual_seed(seed + 2))
    model = model.to(dtype).eval()
    if dtype is torch.float64 and hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # torch has no grouped product of doubles
    return ZooModel(name, model, cast_inputs(inputs, dtype), expected)


def build_or_skip(name: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> ZooModel:
    """`build`, for tests: skips the test where the model is unavailable."""
    try:
        return build(name, dtype, seed)
    except Unavailable as reason:
        pytest.skip(f"{name}: {reason}")


def runs_in_double(name: str) -> bool:
    """Whether the installed transformers runs a model of the zoo in double precision."""
    return name != "clip" or not transformers.__version__.startswith("4.")


def names() -> tuple[str, ...]:
    """The names of all transformers of the zoo; there are other networks, by their names alone."""
    return tuple(TRANSFORMERS)


def cast_inputs(inputs: Any, dtype: torch.dtype) -> Any:
    """Float tensors in nested inputs, cast; everything else as it is."""
    if isinstance(inputs, torch.Tensor):
        return inputs.to(dtype) if inputs.is_floating_point() else inputs
    if isinstance(inputs, Mapping):
        return {key: cast_inputs(value, dtype) for key, value in inputs.items()}
    return inputs


def clone_inputs(inputs: Any) -> Any:
    """Nested inputs with every tensor copied, for models that write into what they are given."""
    if isinstance(inputs, torch.Tensor):
        return inputs.clone()
    if isinstance(inputs, Mapping):
        return {key: clone_inputs(value) for key, value in inputs.items()}
    return inputs


def main_output(outputs: Any) -> torch.Tensor:
    """The tensor to compare two forward passes by: logits, last hidden state, embedding, or the tensor itself."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    names = ("logits", "logits_per_image", "last_hidden_state", "sentence_embedding")
    for name in names:
        value = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
        if isinstance(value, torch.Tensor):
            return value
    raise TypeError(f"no main output in {type(outputs).__name__}; expected one of {', '.join(names)}")


def _unsettle(model: nn.Module, generator: torch.Generator) -> None:
    """Add noise to every parameter; where none of a matrix's entries is much larger, the noise decides."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
