"""Tied weights in a ``state_dict``: written once, read under all their names.

A Trainer writes a model that is not of transformers with safetensors, which refuses a tensor under two names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def each_once(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Keep one name of each tied weight; a hook of ``state_dict``."""
    for names in _tied(module):
        for name in names[1:]:
            state.pop(prefix + name, None)


def all_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Add a tied weight under all its names, whichever of them is in the file; a hook of ``load_state_dict``."""
    for names in _tied(module):
        tensor = next((state[prefix + name] for name in names if prefix + name in state), None)
        for name in names if tensor is not None else ():
            state.setdefault(prefix + name, tensor)


def _tied(module: nn.Module) -> Iterator[list[str]]:
    """The names of each weight that has more than one."""
    names: dict[int, list[str]] = {}
    for name, p in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(p), []).append(name)
    yield from (tied for tied in names.values() if len(tied) > 1)
