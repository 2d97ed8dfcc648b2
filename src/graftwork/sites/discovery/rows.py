"""Which dimension of each value holds the rows of the batch.

The rows grow with the batch and with nothing else, so that runs at other sizes show them. Where they share a dimension with
something else (the windows of an image, all positions of a row), its inputs show whether the rows are outermost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.ops import MOVES, RESHAPES
from graftwork.sites.discovery.shapes import Shapes
from graftwork.sites.discovery.values import Value

_UNKNOWN, _OTHERS, _NONE = -1, -2, -3  # a dimension that is not known; rows of something else; no rows at all
_RESHAPES = RESHAPES | {"repeat_interleave"}
_WRITES_AT_A_MASK = frozenset(("masked_scatter", "setitem", "index_put"))
_READS_AT_A_MASK = frozenset(("getitem", "index", "masked_select"))


def find_rows(shapes: Shapes) -> list[int | None]:
    """For each value of a graph the dimension with the rows, alone or outermost of several; ``None`` where it is not known."""
    found = _find(shapes, 0)
    if any(found[query] == 0 for query in _positions_first(shapes.graph)):
        found = _find(shapes, 1)  # the inputs of the model have positions first too
    return [dimension if dimension >= 0 else None for dimension in found]


def _find(shapes: Shapes, at: int) -> list[int]:
    """The dimensions with the rows, or why there is none, if the rows are dimension `at` of the model's inputs."""
    graph = shapes.graph
    inputs = [value for value in graph.values if value.op == "input" and len(value.shape) > at]
    if not inputs:
        return [_UNKNOWN] * len(graph.values)
    tokens = [value for value in inputs if not value.is_float and "input_ids" in (value.name or "")]
    rows = [shape[at] if shape else None for shape in shapes.of((tokens or inputs)[0].index)]
    apart = _put_at_masks(graph)
    found: list[int] = []
    for value in graph.values:
        if value.op != "input":
            found.append(_made_from(shapes, value, found, rows))
        elif len(value.shape) > at and _match(shapes, value.index, at, rows) and not apart >> value.index & 1:
            found.append(at)
        else:
            found.append(_OTHERS)
    return found


def _match(shapes: Shapes, value: int, dimension: int, rows: Sequence[int | None]) -> bool:
    known = zip(shapes.of(value), rows, strict=True)
    return all(shape is None or size is None or shape[dimension] == size for shape, size in known)


def _made_from(shapes: Shapes, value: Value, found: Sequence[int], rows: Sequence[int | None]) -> int:
    """The dimension with the rows of a value that is no input, from those of its inputs."""
    values = shapes.graph.values
    made_of = [j for j in value.inputs if found[j] != _NONE]
    if not made_of:
        return _NONE
    chosen = value.op in _READS_AT_A_MASK and any(values[j].dtype is torch.bool for j in value.inputs[1:])
    if chosen or all(found[j] == _OTHERS for j in made_of):
        return _OTHERS
    exact = [d for d in range(len(value.shape)) if _match(shapes, value.index, d, rows)]
    if len(exact) == 1 and (shapes.runs == 1 or len(set(shapes.sizes(value.index, exact[0]))) > 1):
        return exact[0]
    before = [j for j in made_of if found[j] >= 0]
    if value.op in _RESHAPES:  # the first dimension keeps the rows outermost
        whole = bool(before) and found[before[0]] == 0 and bool(value.shape) and value.shape[0] % (rows[0] or 1) == 0
        return 0 if whole else _UNKNOWN
    for j in before if value.op not in MOVES else ():  # the same rows, or as many entries for each
        d = found[j]
        if d < len(value.shape) and value.shape[d] == values[j].shape[d] and (d in exact or d == 0):
            return d
    return _UNKNOWN


def _put_at_masks(graph: Graph) -> int:
    """The inputs (a bit mask) that are only written at a mask into what other inputs make: images among tokens."""
    inputs = sum(1 << value.index for value in graph.values if value.op == "input")
    apart = 0
    for value in graph.values:
        masked = any(graph.values[j].dtype is torch.bool for j in value.inputs[1:])
        if value.op in _WRITES_AT_A_MASK and masked and len(value.inputs) > 2:
            apart |= graph.ancestors[value.inputs[-1]] & inputs & ~graph.ancestors[value.inputs[0]]
    return apart


def _positions_first(graph: Graph) -> Iterator[int]:
    """The values that enter a `torch.nn.MultiheadAttention` with positions first."""
    for call in graph.calls:
        if isinstance(call.module, nn.MultiheadAttention) and not call.module.batch_first:
            yield from (p.value for p in call.inputs[:1] if len(graph.values[p.value].shape) == 3)
