"""A table of the adapters and fusions of a model."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable

from torch import nn

from graftwork.attach.members import shared_by_members
from graftwork.attach.state import ModelState
from graftwork.weights.names import parted


@dataclasses.dataclass(frozen=True)
class Row:
    """One adapter or fusion of a `Summary`.

    Attributes:
        name: Its name. An adapter with several members is followed by a row for each.
        method: The method, ``"fusion"``, or ``"member"`` for the weights of one member, which its adapter's row includes.
        weights: Number of its weights, with norms and without the head; shared ones count once.
        head: Number of weights of its head.
        share: Its weights divided by those of the base.
        active: Whether it is part of what is active.
        trainable: Whether it is trained.
        sites: The number of its sites of each kind.
    """

    name: str
    method: str
    weights: int
    head: int
    share: float
    active: bool
    trainable: bool
    sites: str = ""


@dataclasses.dataclass(frozen=True)
class Summary:
    """All adapters and fusions of a model, printable."""

    rows: tuple[Row, ...]
    base: int

    def row(self, name: str) -> Row:
        """The row of one name."""
        return next(row for row in self.rows if row.name == name)

    def __str__(self) -> str:
        lines = [f"{'name':20s} {'method':14s} {'weights':>12s} {'of base':>8s} {'head':>10s}  sites"]
        for row in self.rows:
            marks = ", ".join(m for m, on in (("active", row.active), ("trainable", row.trainable)) if on)
            numbers = f"{row.weights:12,d} {row.share:8.3%} {row.head:10,d}"
            lines.append(f"{row.name:20s} {row.method:14s} {numbers}  {row.sites:24s} {marks}".rstrip())
        return "\n".join([*lines, f"base: {self.base:,d} weights"])


def summarize(state: ModelState) -> Summary:
    """The table of one model."""
    base = sum(p.numel() for p, _ in state.original_flags)
    active = state.names_in_use

    def row(name: str, method: str, parts: Iterable[nn.Module], sites: Iterable[str]) -> Row:
        weights, head = _size(parts), _size(state.head_of(name).values())
        trained = name in state.trainable or state.owner_of(name) in state.trainable
        counts = collections.Counter(state.sites[key].kind for key in sites)
        where = ", ".join(f"{kind} ×{count}" for kind, count in counts.items())
        return Row(name, method, weights, head, weights / max(base, 1), name in active, trained, where)

    rows = []
    for name in state.parts:
        modules, shared, is_adapter = state.modules_of(name), state.shared_of(name), name in state.names
        norms = state.norms_of(name).values() if is_adapter else ()
        method = state.adapter_config(name).display_name if is_adapter else state.kind_of(name)
        rows.append(row(name, method, (*modules.values(), *norms, *([] if shared is None else [shared])), modules))
        members = state.members_of(name) if is_adapter else ()
        for member in members if len(members) > 1 else ():
            own = shared_by_members(state, name).of(parted(member)[1])
            rows.append(row(member, "member", [own], ()))
    return Summary(tuple(rows), base)


def _size(modules: Iterable[nn.Module]) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())
