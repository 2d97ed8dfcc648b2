"""Tied weights in a ``state_dict``: each once when it is written, under all its names when it is read.

A plain Trainer writes the tensors of a model that is not of transformers by safetensors, which takes none twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def each_once(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Leave out every further name of a tied weight; a hook of ``state_dict``."""
    for names in _tied(module):
        for name in names[1:]:
            state.pop(prefix + name, None)


def all_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give a tied weight under all its names, whichever is there; a hook of ``load_state_dict``."""
    for names in _tied(module):
        there = next((state[prefix + name] for name in names if prefix + name in state), None)
        for name in names if there is not None else ():
            state.setdefault(prefix + name, there)


def _tied(module: nn.Module) -> Iterator[list[str]]:
    """The names of each weight that has several."""
    names: dict[int, list[str]] = {}
    for name, p in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(p), []).append(name)
    yield from (several for several in names.values() if len(several) > 1)
