"""A table of what a model carries."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from graftwork.attach.members import shared_by_members
from graftwork.attach.names import parted

if TYPE_CHECKING:
    from graftwork.attach.handle import Handle


@dataclasses.dataclass(frozen=True)
class Row:
    """One adapter or fusion of a `Summary`.

    Attributes:
        name: Its name. An adapter with several members is followed by a row for each.
        method: The method, or ``"fusion"``; ``"member"`` for what is one member's alone, counted in its adapter's row too.
        weights: Number of its weights, norms included, what its sites share once, the head not.
        head: Number of weights of its head.
        share: Weights over those of the base.
        active: Whether it is part of what is active.
        learning: Whether it learns.
    """

    name: str
    method: str
    weights: int
    head: int
    share: float
    active: bool
    learning: bool


@dataclasses.dataclass(frozen=True)
class Summary:
    """All adapters and fusions of a model, printable."""

    rows: tuple[Row, ...]
    base: int

    def row(self, name: str) -> Row:
        """The row of one that is on the model."""
        return next(row for row in self.rows if row.name == name)

    def __str__(self) -> str:
        lines = [f"{'name':20s} {'method':14s} {'weights':>12s} {'of base':>8s} {'head':>10s}"]
        for row in self.rows:
            marks = [m for m, on in (("active", row.active), ("learning", row.learning)) if on]
            lines.append(
                f"{row.name:20s} {row.method:14s} {row.weights:12,d} {row.share:8.3%} {row.head:10,d}  {', '.join(marks)}".rstrip()
            )
        return "\n".join([*lines, f"base: {self.base:,d} weights"])


def summarize(handle: Handle) -> Summary:
    """The table of one model."""
    from graftwork.compose import fusions_in, names_in

    active = set(names_in(handle.active)) | {f.name for f in fusions_in(handle.active)} | set(handle._active_heads())
    active |= {handle.owner_of(name) for name in active}
    base = sum(p.numel() for p, _ in handle._flags)
    rows = []
    for name in handle.parts:
        modules = [*handle.modules_of(name).values()]
        norms = [*handle.norms_of(name).values()] if name in handle.names else []
        shared = handle.shared_of(name)
        everything = (*modules, *norms, *([] if shared is None else [shared]))
        weights = sum(p.numel() for m in everything for p in m.parameters())
        head = sum(p.numel() for m in handle.head_of(name).values() for p in m.parameters())
        method = handle._adapters[name].display_name if name in handle.names else handle.kind_of(name)
        rows.append(Row(name, method, weights, head, weights / max(base, 1), name in active, name in handle.learning))
        here = handle.members_of(name) if name in handle.names else ()
        rows += [_member(handle, member, base, active) for member in here if len(here) > 1]
    return Summary(tuple(rows), base)


def _member(handle: Handle, name: str, base: int, active: set[str]) -> Row:
    """The row of what is one member's alone."""
    adapter, member = parted(name)
    weights = sum(p.numel() for p in shared_by_members(handle, adapter).of(member).parameters())
    head = sum(p.numel() for m in handle.head_of(name).values() for p in m.parameters())
    learns = name in handle.learning or adapter in handle.learning
    return Row(name, "member", weights, head, weights / max(base, 1), name in active, learns)
