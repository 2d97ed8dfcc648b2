"""How large what is kept of a unit is."""

from __future__ import annotations

from pathlib import Path

from graftwork.api import Adapters


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def trained_bytes(grafts: Adapters) -> int:
    """The bytes of all that learns."""
    return sum(p.numel() * p.element_size() for p in grafts.model.parameters() if p.requires_grad)
