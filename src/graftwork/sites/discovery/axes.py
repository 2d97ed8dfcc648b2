"""Which dimension of a tensor holds the rows of the batch, and which its features.

One shape does not show it: an image of 32 by 32 has as many columns as a width of 32. So the model is run with other
sizes as well (`other_sizes.py`), and the shapes are compared dimension by dimension: the rows of the batch grow with the batch
(`rows.py`), the features stay. Where more than one dimension stays, because the model takes one size of image alone, the
norms and the maps near the tensor show which one it is.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import nn

from graftwork.errors import SiteError
from graftwork.sites.discovery import ops
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.rows import find_rows
from graftwork.sites.discovery.shapes import Shapes
from graftwork.sites.discovery.values import Call, Value

_SELECTIONS = frozenset("getitem narrow slice pad constant_pad_nd".split())
_MOST = 40  # values that are looked at around one


class Layout(NamedTuple):
    """The width of a site, the dimension of its features where that is not the last, and that of its rows."""

    width: int
    extra: dict[str, int]
    rows: int | None


class Axes:
    """What the dimensions of the values of one graph hold.

    The methods that take several values take one, and after it others of its stream that help where it is unclear.

    Args:
        graph: The graph.
        others: Graphs of runs of the same model at other sizes, where such runs succeeded.
        apart: Whether a part of the model was run by itself: which of its rows are those of the model is not known.
    """

    def __init__(self, graph: Graph, others: Sequence[Graph] = (), *, apart: bool = False) -> None:
        self.graph = graph
        self._apart = apart
        self.shapes = Shapes(graph, others)
        self._rows = find_rows(self.shapes)

    def rows(self, *values: int) -> int | None:
        """The dimension with the rows of the batch, alone or outermost of several; ``None`` where that is not known."""
        return None if self._apart else self._own_rows(self._alike(values))

    def _own_rows(self, alike: Sequence[int]) -> int | None:
        return next((self._rows[v] for v in alike if self._rows[v] is not None), None)

    def features(self, *values: int) -> int | None:
        """The dimension with the features, ``None`` where that is unclear."""
        alike = self._alike(values)
        shape = self.graph.values[values[0]].shape
        others = [v for v in values if v not in alike]
        if others:  # the same features in another layout
            there = self.features(*others)
            sizes = None if there is None else self.shapes.sizes(others[0], there)
            found = [d for d in range(len(shape)) if self.shapes.sizes(values[0], d) == sizes]
            if len(found) == 1:
                return found[0]
        rows = self._own_rows(alike)
        stay = [
            d for d in range(len(shape)) if d != rows and all(len(set(self.shapes.sizes(v, d))) == 1 for v in alike)
        ]
        stay = [d for d in stay if shape[d] > 1] or stay
        dimension = stay[0] if len(stay) == 1 else self._worked_on(alike, stay)
        return self._before_reshape(values) if dimension is None else dimension

    def _before_reshape(self, values: Sequence[int]) -> int | None:
        """The dimension with the features, from before a reshape that changed neither it nor those after it."""
        value = self.graph.values[values[0]]
        if value.op not in ops.RESHAPES or not value.inputs:
            return None
        source = value.inputs[0]
        there = self.features(source, *values[1:])
        if there is None:
            return None
        rank = len(self.graph.values[source].shape)
        shift = len(value.shape) - rank
        same = all(
            self.shapes.sizes(source, d) == self.shapes.sizes(value.index, d + shift) for d in range(there, rank)
        )
        return there + shift if same and there + shift >= 0 else None

    def layout(self, where: str, *values: int, width: int | None = None) -> Layout:
        """The layout of a site whose output is a value; raises `SiteError` if it is unclear which dimension holds the features.

        ``where`` is the block, for the error, and ``width`` the width of what was added to the value, if it is known.
        """
        shape = self.graph.values[values[0]].shape
        dimension = self.features(*values)
        if dimension is None and width is not None:
            fitting = [d for d in range(len(shape)) if set(self.shapes.sizes(values[0], d)) == {width}]
            dimension = fitting[0] if len(fitting) == 1 else None
        if dimension is None:
            shapes = ", ".join(dict.fromkeys(str(list(s)) for s in self.shapes.of(values[0]) if s is not None))
            raise SiteError(
                f"{where}: it is unclear which dimension holds the features of what is added there, its shape was {shapes}; "
                "pass example_inputs= of other sizes, all different from the model's width, or give the site by hand with "
                "its width: gw.Site(..., width=)"
            )
        last = dimension == len(shape) - 1
        return Layout(int(shape[dimension]), {} if last else {"channels": dimension}, self.rows(*values))

    def _alike(self, values: Sequence[int]) -> list[int]:
        return [v for v in dict.fromkeys(values) if self.shapes.same(values[0], v)]

    def _worked_on(self, values: Sequence[int], stay: Sequence[int]) -> int | None:
        """The one dimension, of those that stay, that norms near a value work on; where there are no norms, maps."""
        worked_on = {
            found for v in values for found in _dimensions_worked_on(self.graph, v) if found[0] in stay or not stay
        }
        by_norms = {dimension for dimension, is_norm in worked_on if is_norm}
        dimensions = by_norms or {dimension for dimension, _ in worked_on}
        return dimensions.pop() if len(dimensions) == 1 else None


def _dimensions_worked_on(graph: Graph, start: int) -> Iterator[tuple[int, bool]]:
    """The dimensions that norms and maps work on, of a value and of those with its layout; true for norms."""
    rank = len(graph.values[start].shape)
    seen = {start}
    waiting = collections.deque([start])
    while waiting and len(seen) < _MOST:
        i = waiting.popleft()
        value = graph.values[i]
        for c in {*value.taken_by, *value.returned_by}:
            dimension = _normed(graph.calls[c], value.shape)
            if dimension is not None:
                yield dimension, True
        for j in (i, *graph.users[i]):
            yield from _operations_at(graph, graph.values[j], i)
        near = [j for j in graph.users[i] if _keeps(graph, j, i)]
        near += [j for j in graph.active_inputs(i) if _keeps(graph, i, j)]
        for j in near:
            if j not in seen and len(graph.values[j].shape) == rank:
                seen.add(j)
                waiting.append(j)


def _keeps(graph: Graph, made: int, of: int) -> bool:
    """Whether a value has its dimensions where one that it was made of has them: shorter, or with more added."""
    value = graph.values[made]
    if not graph.active[made] or value.op in ops.MOVES or value.op not in ops.TRIVIAL:
        return False
    return value.shape == graph.values[of].shape or value.op in _SELECTIONS


def _normed(call: Call, shape: tuple[int, ...]) -> int | None:
    """The dimension of a norm's own weights; ``None`` if the call is of no norm, or it is unclear."""
    module = call.module
    if not ops.is_norm(module):
        return None
    if isinstance(module, nn.GroupNorm | nn.modules.batchnorm._NormBase):
        return 1 if len(shape) > 1 else None
    if isinstance(module, nn.LayerNorm) and type(module).forward is nn.LayerNorm.forward:
        return len(shape) - 1
    sizes = {parameter.numel() for parameter in module.parameters(recurse=False) if parameter.dim() == 1}
    fitting = [d for d in range(1, len(shape)) if shape[d] in sizes]
    return fitting[0] if len(fitting) == 1 else None


def _operations_at(graph: Graph, value: Value, near: int) -> Iterator[tuple[int, bool]]:
    """The dimension of the value `near`, which `value` is or is made of, that a map or a bare norm works on."""
    if near != value.index and value.inputs[:1] != (near,):
        return
    if value.op in ("linear", "addmm", "layer_norm", "rms_norm", "native_layer_norm"):
        yield len(graph.values[near].shape) - 1, value.op.endswith("norm")
    elif value.op in ops.CONVOLUTIONS or value.op in ("batch_norm", "group_norm", "instance_norm"):
        yield 1, value.op.endswith("norm")
