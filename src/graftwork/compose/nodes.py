"""Compositions at work: a tree of nodes for one site, made once when a composition is activated.

Every node maps a site's `Reads` to the addition δ ``(batch, positions, width)``, or ``None`` for nothing. A node knows
its children and how much of each; not what an adapter is made of, and not where the site stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from graftwork.compose import rows as by_rows
from graftwork.compose.bank import Bank, Stacked
from graftwork.compose.blocks import Block
from graftwork.compose.blocks_by_row import Split
from graftwork.compose.reads import Reads
from graftwork.compose.rowbank import RowBank
from graftwork.errors import CompositionError
from graftwork.methods.layers.contract import AdapterModule
from graftwork.methods.layers.weight_cache import WeightCache


class Node:
    """Base: the addition of one composition at one site.

    Attributes:
        required_reads: The reads that it takes.
        mixes_positions: Whether an adapter in it does.
        children: The nodes inside, ``None`` for those that add nothing.
    """

    required_reads: frozenset[str] = frozenset()
    mixes_positions: bool = False
    children: Sequence[Node | None] = ()

    def __call__(self, reads: Reads) -> Tensor | None:
        """The addition for these reads."""
        raise NotImplementedError

    def fold(self) -> bool:
        """Multiply out weights that are fixed, and keep the result whatever changes; false where there is nothing to fold."""
        return False


class Leaf(Node):
    """One adapter."""

    def __init__(self, module: AdapterModule, name: str) -> None:
        self.module = module
        self.name = name
        self.required_reads = frozenset({module.reads, *module.also_reads})
        self.mixes_positions = module.mixes_positions

    def __call__(self, reads: Reads) -> Tensor:
        module = self.module
        return module(reads.get(module.reads), reads.around, *map(reads.get, module.also_reads))  # type: ignore[no-any-return]


class StackNode(Node):
    """Stack: one update after another."""

    def __init__(self, children: Sequence[Node]) -> None:
        self.children: list[Node] = list(children)
        self.required_reads, self.mixes_positions = required_reads_of(children), mixes(children)

    def __call__(self, reads: Reads) -> Tensor | None:
        total: Tensor | None = None
        for n, child in enumerate(self.children):
            delta = child(reads)
            if delta is None:
                continue
            total = delta if total is None else total + delta
            if n + 1 < len(self.children):
                reads = reads.added(delta)
        return total


class Pool(Node):
    """Children that are weighed: the banked ones together, the others each for itself.

    Attributes:
        order: For each child its place among the banked (first) and the other ones.
    """

    def __init__(self, children: Sequence[Node | None]) -> None:
        self.required_reads, self.mixes_positions = required_reads_of(children), mixes(children)
        self.children = list(children)
        banked = [n for n, c in enumerate(children) if isinstance(c, Leaf) and c.module.banked]
        rest = [n for n in range(len(children)) if n not in banked]
        self.bank = Bank([children[n].module for n in banked]) if banked else None  # type: ignore[union-attr]
        self.others = [children[n] for n in rest]
        places = banked + rest
        self.order = [places.index(n) for n in range(len(children))]

    def other_deltas(self, reads: Reads) -> list[Tensor | None]:
        """The additions of the children that are not banked."""
        return [None if child is None else child(reads) for child in self.others]


class AverageNode(Pool):
    """Average: constant weights."""

    def __init__(self, children: Sequence[Node | None], weights: Sequence[float]) -> None:
        super().__init__(children)
        by_place = dict(zip(self.order, weights, strict=True))
        self.weights = [by_place[place] for place in range(len(children))]
        self.kept: WeightCache[Stacked] = WeightCache(self._weighted)

    def __call__(self, reads: Reads) -> Tensor | None:
        total: Tensor | None = None
        count = 0
        if self.bank is not None:
            count = len(self.bank.members)
            stacked = self.kept.get(self.bank.weights())
            total = self.bank.mix(self.bank.gains(reads), self.bank.features(reads, stacked), stacked)
        for weight, delta in zip(self.weights[count:], self.other_deltas(reads), strict=True):
            if delta is not None:
                total = weight * delta if total is None else total + weight * delta
        return total

    def _weighted(self) -> Stacked:
        """The banked children's weights, each readout multiplied with its child's weight."""
        assert self.bank is not None
        stacked = self.bank.stacked()
        weights = stacked.up.new_tensor(self.weights[: len(self.bank.members)])
        return self.bank.scaled(stacked, weights[:, None])


class ByRows(Node):
    """BatchSplit, MixedBatch and Replicate: each row to one child."""

    def __init__(self, block: Block, children: Sequence[Node | None]) -> None:
        self.block = block
        self.children = list(children)
        self.required_reads, self.mixes_positions = required_reads_of(children), mixes(children)
        leaves = [c.module if isinstance(c, Leaf) else None for c in self.children]
        self.banks = RowBank.of(leaves)

    def __call__(self, reads: Reads) -> Tensor | None:
        batch_size = reads.require_rows()
        assignment = by_rows.assign(self.block, batch_size, beams=reads.around.beams)
        parts: list[tuple[by_rows.Rows, Tensor | None]] = []
        for bank, served in self.banks:
            rows = tuple(row for row, child in enumerate(assignment) if child in served)
            if rows:
                parts.append((rows, bank(reads.rows(rows), [served[assignment[row]] for row in rows])))
        done = {child for _, served in self.banks for child in served}
        for node, owners in self._alike(done):
            rows = tuple(row for row, child in enumerate(assignment) if child in owners)
            if rows:
                parts.append((rows, None if node is None else node(reads.rows(rows))))
        return by_rows.merge(parts, reads.value, batch_size)

    def _alike(self, done: set[int]) -> list[tuple[Node | None, set[int]]]:
        """The children that no bank serves; rows of one and the same adapter go together."""
        found: dict[object, tuple[Node | None, set[int]]] = {}
        for child, node in enumerate(self.children):
            if child not in done:
                key = None if node is None else id(node.module) if isinstance(node, Leaf) else ("node", child)
                found.setdefault(key, (node, set()))[1].add(child)
        return list(found.values())


class ByPositions(Node):
    """Split: each position to one child.

    A child that mixes positions is computed over all of them and adds to its own: what it would add there alone.
    """

    def __init__(self, block: Split, children: Sequence[Node | None]) -> None:
        self.block = block
        self.children = list(children)
        self.required_reads, self.mixes_positions = required_reads_of(children), mixes(children)

    def __call__(self, reads: Reads) -> Tensor | None:
        by_rows.refuse_traced(self.block)
        splits = self.block.options["splits"]
        value = reads.value
        if value.dim() != 3 or value.shape[1] != sum(splits):
            raise CompositionError(
                f"{self.block!r}: the splits add up to {sum(splits)}, but the input has shape {tuple(value.shape)} (batch, "
                "positions, width); make them add up to the padded length"
            )
        start = 0
        parts: list[Tensor] = []
        for size, child in zip(splits, self.children, strict=True):
            delta = None if child is None or not size else _part(child, reads, start, start + size)
            shape = (value.shape[0], size, value.shape[2])
            parts.append(value.new_zeros(shape) if delta is None else delta.to(value.dtype))
            start += size
        return torch.cat(parts, dim=1)


def _part(child: Node, reads: Reads, start: int, stop: int) -> Tensor | None:
    """A child's addition at some of the positions."""
    if not child.mixes_positions:
        return child(reads.positions(start, stop))
    whole = child(reads)
    return None if whole is None else whole[:, start:stop]


def mixes(children: Sequence[Node | None]) -> bool:
    """Whether one of the children mixes positions."""
    return any(c is not None and c.mixes_positions for c in children)


def required_reads_of(children: Sequence[Node | None]) -> frozenset[str]:
    """The reads that the children need."""
    return frozenset().union(*(c.required_reads for c in children if c is not None))


def walk(node: Node | None) -> Iterator[Node]:
    """Every node of a tree, this one first; the banked children of a pool are leaves again."""
    if node is None:
        return
    yield node
    for child in node.children:
        yield from walk(child)
