"""Kinds by name: registering one here is all it takes for a recipe to name it."""

from __future__ import annotations

from typing import TypeVar

from graftwork.errors import TaskError
from graftwork.options import nearest
from graftwork.tasks.kind.contract import Kind

kinds: dict[str, type[Kind]] = {}
K = TypeVar("K", bound=type[Kind])


def register(kind: K) -> K:
    """Class decorator: make a kind known under its ``name``."""
    if not kind.name or kind.name in kinds:
        raise TaskError(f"{kind.__name__}: the name {kind.name!r} is empty or taken; choose another")
    kinds[kind.name] = kind
    return kind


def find_kind(name: str, where: str) -> type[Kind]:
    """A kind by its name.

    Raises:
        TaskError: If it is unknown.
    """
    if name not in kinds:
        raise TaskError(f"{where}: kind {name!r} is not known; {nearest(name, kinds)}")
    return kinds[name]
