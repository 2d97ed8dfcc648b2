"""Blocks that give the rows of a batch, or its positions, to their children."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graftwork.compose.blocks import Block, Composition, norms_option, numbers
from graftwork.errors import CompositionError


class BatchSplit(Block):
    """Rows of the batch to each child, one run of rows after another.

    Args:
        *children: One composition a run.
        batch_sizes: Rows a child; one number for all alike, of which the last, ragged batch may fill fewer. To generate,
            one number a child is needed: beams could not be told from rows.

    Example:
        >>> adapters.active = gw.BatchSplit("a", "b", batch_sizes=[1, 1])
        >>> len(model(**batch).logits)
        2
    """

    kind = "batch_split"

    def __init__(self, *children: Composition, batch_sizes: Sequence[int] | int) -> None:
        one = isinstance(batch_sizes, int) and not isinstance(batch_sizes, bool)
        sizes: Any = batch_sizes if one else numbers("BatchSplit", "batch_sizes", batch_sizes, len(children), (int,))
        super().__init__(*children, batch_sizes=sizes)
        for size in (sizes,) if one else sizes:
            if size < 0 or (size == 0 and one):
                raise CompositionError(f"BatchSplit: batch_sizes has {size!r}, no number of rows; give 1 or more")


class MixedBatch(Block):
    """One composition a row: ``MixedBatch(["mrpc", None, "rte", "mrpc"])``.

    Args:
        rows: The composition of each row.
        beams: Rows that follow one another with one composition, for beam search without a cache; with a cache the
            number is found.

    Example:
        >>> adapters.active = gw.MixedBatch(["b", None])
        >>> len(model(**batch).logits)
        2
    """

    kind = "mixed_batch"

    def __init__(self, rows: Sequence[Composition], *, beams: int = 1) -> None:
        if isinstance(rows, (str, Block)) or not isinstance(rows, Iterable):
            raise CompositionError(f"MixedBatch takes a list with one composition a row, not {rows!r}")
        if not isinstance(beams, int) or isinstance(beams, bool) or beams < 1:
            raise CompositionError(f"MixedBatch: beams is {beams!r}; it must be a whole number of 1 or more")
        super().__init__(*rows, beams=beams)

    def __repr__(self) -> str:
        return f"MixedBatch({list(self.children)!r})"

    @classmethod
    def from_children(cls, *children: Composition, **options: Any) -> MixedBatch:
        return cls(children, **options)


class Split(Block):
    """Positions to each child: ``Split("a", "b", splits=[10, 118])`` gives the first 10 positions to a.

    Args:
        *children: One composition a run of positions.
        splits: Positions a child; they add up to the padded length.
        norms: ``"base"`` uses the base's norms where the children's own differ; without it that is an error.

    Example:
        >>> adapters.activate(gw.Split("a", "b", splits=[2, 3]), head="a")
    """

    kind = "split"

    def __init__(self, *children: Composition, splits: Sequence[int], norms: str | None = None) -> None:
        sizes = numbers("Split", "splits", splits, len(children), (int,))
        super().__init__(*children, splits=sizes, norms=norms_option(norms))
        if any(s < 0 for s in sizes):
            raise CompositionError(f"Split: splits is {list(sizes)}; give each child 0 or more positions")


class Replicate(Block):
    """Every row for every child: the inputs are repeated at the model's outermost forward, child after child.

    The output has ``len(children)`` times the rows: all rows with the first child, then all with the second. When predicting,
    blocks of the model below the first adapter compute each row once.

    Example:
        >>> adapters.active = gw.Replicate("a", "b")
        >>> len(model(**batch).logits)  # both rows with a, then both with b
        4
    """

    kind = "replicate"

    def __init__(self, *children: Composition) -> None:
        super().__init__(*children)
        if any(isinstance(part, Replicate) for child in children if isinstance(child, Block) for part in child.walk()):
            raise CompositionError(f"{self!r}: a Replicate inside a Replicate; give all children to one")
