"""Rows of the batch: which child of a block each row belongs to, and how parts are put together again.

Row numbers are plain Python integers, known before any tensor is touched, so nothing here waits for a device.
A site may see each row of the model's batch as several consecutive rows of its own (windows of an image, flattened
positions): `spread` says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graftwork.compose.blocks import Block
from graftwork.compose.blocks_by_row import BatchSplit, MixedBatch, Replicate
from graftwork.errors import CompositionError

Rows = tuple[int, ...]


def assign(block: Block, rows: int, *, beams: bool = False) -> tuple[int, ...]:
    """The child's number for each of ``rows`` rows.

    Args:
        block: A `BatchSplit`, `MixedBatch` or `Replicate`.
        rows: Rows of the block's batch.
        beams: Whether each row may have become several consecutive ones (generation with a cache).

    Raises:
        CompositionError: If the block's sizes do not add up to the rows, or `torch.jit.trace` would keep their numbers.
    """
    refuse_traced(block)
    if isinstance(block, Replicate):
        share, rest = divmod(rows, len(block.children))
        if rest:
            raise CompositionError(f"{block!r} repeats the rows {len(block.children)} times, but it met {rows} rows")
        return tuple(child for child in range(len(block.children)) for _ in range(share))
    if isinstance(block, MixedBatch):
        return _mixed(block, rows, beams)
    assert isinstance(block, BatchSplit)
    sizes = block.options["batch_sizes"]
    if isinstance(sizes, int):
        if beams:
            raise CompositionError(
                f"{block!r}: while generating, one number as batch_sizes cannot tell rows from beams; give one number a child"
            )
        if rows > sizes * len(block.children):
            raise CompositionError(
                f"{block!r} takes {sizes} rows a child, {sizes * len(block.children)} in all, but the batch has {rows}; "
                "give smaller batches, or more children"
            )
        return tuple(row // sizes for row in range(rows))
    times, rest = divmod(rows, sum(sizes)) if sum(sizes) else (0, 1)
    if rest or times < 1 or (times > 1 and not beams):
        raise CompositionError(
            f"{block!r}: the batch sizes add up to {sum(sizes)}, but the batch has {rows} rows; make them equal, or give "
            "one number as batch_sizes, which a ragged last batch may not fill"
        )
    return tuple(child for child, size in enumerate(sizes) for _ in range(size * times))


def refuse_traced(block: Block) -> None:
    """Refuse a block that gives out rows or positions by number where these would be kept for inputs of any shape.

    Raises:
        CompositionError: While `torch.jit.trace` runs, which checks no shape later.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined]  # torch documents it and does not export it
        raise CompositionError(
            f"{block!r} gives out rows or positions by their numbers, and torch.jit.trace (which torch.onnx.export with "
            "dynamo=False uses too) would keep those of this batch for batches of any shape; use torch.export.export, whose "
            "program refuses other shapes, or trace a model with one adapter for all rows"
        )


def _mixed(block: MixedBatch, rows: int, beams: bool) -> tuple[int, ...]:
    names = len(block.children)
    times, rest = divmod(rows, names)
    if rest or not (times == 1 or times == block.options["beams"] or (beams and times > 1)):
        raise CompositionError(
            f"MixedBatch names {names} rows, but the batch has {rows}; name every row, or for beam search without a cache "
            f"give MixedBatch(..., beams={max(times, 2)})"
        )
    return tuple(child for child in range(names) for _ in range(times))


def members(assignment: Sequence[int], child: int) -> Rows:
    """The rows of one child."""
    return tuple(row for row, owner in enumerate(assignment) if owner == child)


def is_run(rows: Rows) -> bool:
    """Whether the rows follow one another."""
    return bool(rows) and rows[-1] - rows[0] + 1 == len(rows) and rows == tuple(range(rows[0], rows[-1] + 1))


def take(tensor: Tensor, rows: Rows, batch_size: int) -> Tensor:
    """Some of ``batch_size`` rows of a tensor whose first dimension is a multiple of ``batch_size``."""
    spread = _spread(tensor, batch_size)
    if is_run(rows):
        return tensor[rows[0] * spread : (rows[-1] + 1) * spread]
    if spread == 1:
        return tensor.index_select(0, torch.tensor(rows, device=tensor.device))
    grouped = tensor.reshape(batch_size, spread, *tensor.shape[1:])
    picked = grouped.index_select(0, torch.tensor(rows, device=tensor.device))
    return picked.reshape(len(rows) * spread, *tensor.shape[1:])


def merge(
    parts: Sequence[tuple[Rows, Tensor | None]], like: Tensor, batch_size: int, rows_of: Tensor | None = None
) -> Tensor | None:
    """The parts of all ``batch_size`` rows as one tensor shaped like ``like`` (but for its rows, those of ``rows_of``).

    A part that is ``None`` is zero; where all are, so is the whole.
    """
    if all(part is None for _, part in parts):
        return None
    spread = _spread(like if rows_of is None else rows_of, batch_size)
    order = [row for rows, _ in parts for row in rows]
    values = [
        like.new_zeros((len(rows) * spread, *like.shape[1:])) if part is None else part.to(like.dtype)
        for rows, part in parts
    ]
    whole = values[0] if len(values) == 1 else torch.cat(values)
    if order == sorted(order):
        return whole
    back = [0] * len(order)
    for position, row in enumerate(order):
        back[row] = position
    return take(whole, tuple(back), batch_size)


def _spread(tensor: Tensor, batch_size: int) -> int:
    spread, rest = divmod(int(tensor.shape[0]), batch_size)
    if rest or not spread:
        raise CompositionError(
            f"a site sees {tensor.shape[0]} rows where the batch has {batch_size}: compositions by rows need the batch first; "
            "for one adapter for all rows use its name"
        )
    return spread
