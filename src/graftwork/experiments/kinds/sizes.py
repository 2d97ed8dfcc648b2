"""How large what a unit trains is, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

from graftwork.api import Adapters


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def trained_weights(adapters: Adapters) -> int:
    """How many weights learn."""
    return sum(p.numel() for p in adapters.model.parameters() if p.requires_grad)


def trained_bytes(adapters: Adapters) -> int:
    """The bytes of all that learns."""
    return sum(p.numel() * p.element_size() for p in adapters.model.parameters() if p.requires_grad)
