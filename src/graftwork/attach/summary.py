"""A table of what a model carries."""

from __future__ import annotations

import collections
import dataclasses

from graftwork.attach.members import shared_by_members
from graftwork.attach.state import ModelState
from graftwork.compose import names_in
from graftwork.compose.blocks import fusions_in
from graftwork.weights.names import parted


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
        trainable: Whether it is trained.
        sites: Where it is: the number of its sites of each kind.
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
        """The row of one that is on the model."""
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
    active = (
        set(names_in(state.runtime.active))
        | {f.name for f in fusions_in(state.runtime.active)}
        | set(state.active_heads)
    )
    active |= {state.owner_of(name) for name in active}
    base = sum(p.numel() for p, _ in state.original_flags)
    rows = []
    for name in state.parts:
        modules = [*state.modules_of(name).values()]
        norms = [*state.norms_of(name).values()] if name in state.names else []
        shared = state.shared_of(name)
        everything = (*modules, *norms, *([] if shared is None else [shared]))
        weights = sum(p.numel() for m in everything for p in m.parameters())
        head = sum(p.numel() for m in state.head_of(name).values() for p in m.parameters())
        method = state.adapter_config(name).display_name if name in state.names else state.kind_of(name)
        rows.append(
            Row(
                name,
                method,
                weights,
                head,
                weights / max(base, 1),
                name in active,
                name in state.trainable,
                _sites(state, name),
            )
        )
        here = state.members_of(name) if name in state.names else ()
        rows += [_member(state, member, base, active) for member in here if len(here) > 1]
    return Summary(tuple(rows), base)


def _sites(state: ModelState, name: str) -> str:
    """The number of an adapter's or a fusion's sites, by their kind."""
    counts = collections.Counter(state.sites[key].kind for key in state.modules_of(name))
    return ", ".join(f"{kind} ×{count}" for kind, count in counts.items())


def _member(state: ModelState, name: str, base: int, active: set[str]) -> Row:
    """The row of what is one member's alone."""
    adapter, member = parted(name)
    weights = sum(p.numel() for p in shared_by_members(state, adapter).of(member).parameters())
    head = sum(p.numel() for m in state.head_of(name).values() for p in m.parameters())
    learns = name in state.trainable or adapter in state.trainable
    return Row(name, "member", weights, head, weights / max(base, 1), name in active, learns)
