"""Which dimension of a tensor holds the rows of the batch, and which its features.

A shape alone does not tell: an image of 32 by 32 has as many columns as a width of 32. So the model is run with other
sizes as well (`graftwork.sites.varied`), and the shapes are compared dimension by dimension: the rows of
the batch grow with the batch, the features stay. Where more than one dimension stays, because the model takes one size
of image alone, the norms and the maps that work on the tensor tell.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn

from graftwork.errors import SiteError
from graftwork.sites import ops
from graftwork.sites.graph import Graph
from graftwork.sites.values import Call, Value

Shape = tuple[int, ...]

_UNKNOWN, _OTHERS, _NONE = -1, -2, -3  # a dimension that is not known; rows of something else; no rows at all
_RESHAPES = frozenset(
    "view reshape flatten unflatten _unsafe_view _reshape_alias view_as reshape_as repeat_interleave".split()
)
_WRITES_AT_A_MASK = frozenset(("masked_scatter", "setitem", "index_put"))
_READS_AT_A_MASK = frozenset(("getitem", "index", "masked_select"))
_MOVES = frozenset("permute transpose movedim swapaxes swapdims T mT H t".split())
_SELECTIONS = frozenset("getitem narrow slice pad constant_pad_nd".split())
_FAR = 40  # values looked at around one, for what works on it


class Layout(NamedTuple):
    """The width of a site, the dimension of its features where that is not the last, and that of its rows."""

    width: int
    extra: dict[str, int]
    rows: int | None


class Axes:
    """What the dimensions of the values of one graph hold.

    Args:
        graph: The graph.
        others: Graphs of runs of the same model at other sizes, as many as there are.
        apart: Whether a part of the model was run by itself: what its rows are among those of the model is not known.
    """

    def __init__(self, graph: Graph, others: Sequence[Graph] = (), *, apart: bool = False) -> None:
        self.graph = graph
        self._apart = apart
        self._others = [_aligned(graph, other) for other in others]
        self._rows = self._find_rows(0)
        if any(self._rows[query] == 0 for query in _positions_first(graph)):
            self._rows = self._find_rows(1)  # what the model itself is given has positions first too

    def rows(self, *values: int) -> int | None:
        """The dimension with the rows of the batch, alone or outermost of several; ``None`` where that is not known.

        Args:
            *values: A value, and others of its stream that tell where it does not.
        """
        return None if self._apart else self._own_rows(values)

    def _own_rows(self, values: Sequence[int]) -> int | None:
        known = (self._rows[v] for v in self._alike(values))
        return next((dimension for dimension in known if dimension >= 0), None)

    def features(self, *values: int) -> int | None:
        """The dimension with the features, ``None`` where that is unclear.

        Args:
            *values: A value, and others of its stream that tell where it does not.
        """
        value, alike = values[0], self._alike(values)
        stream = next((v for v in values if v not in alike), None)
        if stream is not None:  # the same features in another layout
            there = self.features(*(v for v in values if v not in alike))
            sizes = None if there is None else self._sizes(stream, there)
            found = [d for d in range(len(self.graph.values[value].shape)) if self._sizes(value, d) == sizes]
            if len(found) == 1:
                return found[0]
        shape = self.graph.values[value].shape
        rows = self._own_rows(alike)
        stay = [d for d in range(len(shape)) if d != rows and all(len(set(self._sizes(v, d))) == 1 for v in alike)]
        stay = [d for d in stay if shape[d] > 1] or stay
        return stay[0] if len(stay) == 1 else self._worked_on(alike, stay)

    def _sizes(self, value: int, dimension: int) -> list[int]:
        return [shape[dimension] for shape in self.shapes(value) if shape is not None]

    def layout(self, where: str, *values: int, width: int | None = None) -> Layout:
        """What a site says of the dimensions of its value.

        Args:
            where: The block, for the error.
            *values: A value, and others of its stream that tell where it does not.
            width: The width of what was added to it, where that is known already.

        Raises:
            SiteError: If it is unclear which dimension holds the features.
        """
        shape = self.graph.values[values[0]].shape
        dimension = self.features(*values)
        if dimension is None and width is not None:
            fitting = [d for d in range(len(shape)) if set(self._sizes(values[0], d)) == {width}]
            dimension = fitting[0] if len(fitting) == 1 else None
        if dimension is None:
            shapes = ", ".join(dict.fromkeys(str(list(s)) for s in self.shapes(values[0]) if s is not None))
            raise SiteError(
                f"{where}: it is unclear which dimension holds the features of what is added there, its shape was {shapes}; "
                "pass example_inputs= of other sizes, all different from the model's width, or give the site by hand with "
                "its width: gw.Site(..., width=)"
            )
        last = dimension == len(shape) - 1
        return Layout(int(shape[dimension]), {} if last else {"channels": dimension}, self.rows(*values))

    def shapes(self, value: int) -> list[Shape | None]:
        """The shapes that a value has in the runs, this graph's first; ``None`` in a run that went another way there."""
        return [self.graph.values[value].shape, *(shapes.get(value) for shapes in self._others)]

    def same_shape(self, one: int, other: int) -> bool:
        """Whether two values have the same shape, in every run that shows both."""
        pairs = zip(self.shapes(one), self.shapes(other), strict=True)
        return all(a == b for a, b in pairs if a is not None and b is not None)

    def _alike(self, values: Sequence[int]) -> list[int]:
        return [v for v in dict.fromkeys(values) if self.same_shape(values[0], v)]

    # -- rows

    def _find_rows(self, at: int) -> list[int]:
        """For each value the dimension of the rows, which are dimension `at` of the inputs, or why there is none."""
        graph = self.graph
        inputs = [value for value in graph.values if value.op == "input" and len(value.shape) > at]
        if not inputs:
            return [_UNKNOWN] * len(graph.values)
        tokens = [value for value in inputs if not value.is_float and "input_ids" in (value.name or "")]
        main = (tokens or inputs)[0]
        sizes = [shape[at] if shape else None for shape in self.shapes(main.index)]
        apart = _put_at_masks(graph)
        found: list[int] = []
        for value in graph.values:
            if value.op == "input":
                is_row = len(value.shape) > at and self._match(value.index, at, sizes) and not apart >> value.index & 1
                found.append(at if is_row else _OTHERS)
            else:
                found.append(self._rows_from(value, found, sizes))
        return found

    def _match(self, value: int, dimension: int, sizes: Sequence[int | None]) -> bool:
        shapes = self.shapes(value)
        return all(s is None or size is None or s[dimension] == size for s, size in zip(shapes, sizes, strict=True))

    def _rows_from(self, value: Value, found: list[int], sizes: Sequence[int | None]) -> int:
        graph = self.graph
        made_of = [j for j in value.inputs if found[j] != _NONE]
        if not made_of:
            return _NONE
        chosen = value.op in _READS_AT_A_MASK and any(graph.values[j].dtype is torch.bool for j in value.inputs[1:])
        if chosen or all(found[j] == _OTHERS for j in made_of):
            return _OTHERS
        before = [j for j in made_of if found[j] >= 0]
        exact = [d for d in range(len(value.shape)) if self._match(value.index, d, sizes)]
        varied = any(
            shape is not None and shape[d] != value.shape[d] for d in exact for shape in self.shapes(value.index)
        )
        if len(exact) == 1 and (varied or not self._others):
            return exact[0]
        for j in (
            before if value.op not in _MOVES | _RESHAPES else ()
        ):  # the same rows as before, or as many behind each
            d = found[j]
            if d < len(value.shape) and value.shape[d] == graph.values[j].shape[d] and (d in exact or d == 0):
                return d
        whole = value.op in _RESHAPES and bool(before) and found[before[0]] == 0 and bool(value.shape)
        return 0 if whole and value.shape[0] % (sizes[0] or 1) == 0 else _UNKNOWN

    # -- features

    def _worked_on(self, values: Sequence[int], stay: Sequence[int]) -> int | None:
        """The one dimension of those that stay which norms work on around a value; where there are none, maps."""
        told: dict[bool, set[int]] = collections.defaultdict(set)
        for value in values:
            for dimension, is_norm in self._workers(value):
                if dimension in stay or not stay:
                    told[is_norm].add(dimension)
        for dimensions in (told[True], told[False]):
            if dimensions:
                return dimensions.pop() if len(dimensions) == 1 else None
        return None

    def _workers(self, start: int) -> Iterator[tuple[int, bool]]:
        """The dimensions that norms and maps next to a value work on, through what keeps its shape; true for norms."""
        graph = self.graph
        rank = len(graph.values[start].shape)
        seen = {start}
        waiting = collections.deque([start])
        while waiting and len(seen) < _FAR:
            i = waiting.popleft()
            yield from self._modules_at(i)
            for j in (i, *graph.users[i]):
                yield from _operations_at(graph, graph.values[j], i)
            near = [j for j in graph.users[i] if _keeps(graph, j, i)]
            near += [j for j in graph.active_inputs(i) if _keeps(graph, i, j)]
            for j in near:
                if j not in seen and len(graph.values[j].shape) == rank:
                    seen.add(j)
                    waiting.append(j)

    def _modules_at(self, value: int) -> Iterator[tuple[int, bool]]:
        graph = self.graph
        shape = graph.values[value].shape
        for c in {*graph.values[value].taken_by, *graph.values[value].returned_by}:
            dimension = _normed(graph.calls[c], shape)
            if dimension is not None:
                yield dimension, True


def _keeps(graph: Graph, made: int, of: int) -> bool:
    """Whether a value has its dimensions where one that it was made of has them: shorter, or with more added."""
    value = graph.values[made]
    if not graph.active[made] or value.op in _MOVES or value.op not in ops.TRIVIAL:
        return False
    return value.shape == graph.values[of].shape or value.op in _SELECTIONS


def _normed(call: Call, shape: Shape) -> int | None:
    """The dimension that a norm's own weights lie along."""
    module = call.module
    if not ops.is_norm(module):
        return None
    if isinstance(module, nn.GroupNorm | nn.modules.batchnorm._NormBase):
        return 1 if len(shape) > 1 else None
    sizes = {parameter.numel() for parameter in module.parameters(recurse=False) if parameter.dim() == 1}
    fitting = [d for d in range(1, len(shape)) if shape[d] in sizes]
    last = len(shape) - 1
    if isinstance(module, nn.LayerNorm) and type(module).forward is nn.LayerNorm.forward:
        return last
    return fitting[0] if len(fitting) == 1 else None


def _operations_at(graph: Graph, value: Value, near: int) -> Iterator[tuple[int, bool]]:
    """The dimension of the value `near`, which `value` is or is made of, that a map or a bare norm works on."""
    first = value.inputs[0] if value.inputs else None
    if near not in (value.index, first):
        return
    rank = len(graph.values[near].shape)
    if value.op in ("linear", "addmm", "layer_norm", "rms_norm", "native_layer_norm"):
        yield rank - 1, value.op != "linear" and "norm" in value.op
    elif value.op in ops.CONVOLUTIONS or value.op in ("batch_norm", "group_norm", "instance_norm"):
        yield 1, value.op.endswith("norm")


def _aligned(graph: Graph, other: Graph) -> dict[int, Shape]:
    """For each value of a graph the shape of its counterpart in another one.

    Counterparts are the values made directly in the same call of the same module, one after another from its beginning and
    from its end, as long as both runs did the same.
    """
    shapes: dict[int, Shape] = {}
    theirs = _by_call(other)
    for call, values in _by_call(graph).items():
        counterparts = theirs.get(call, [])
        alike = _first_alike(values, counterparts)
        pairs = [*zip(values[:alike], counterparts[:alike], strict=True)]
        if alike < len(values):  # a loop over rows or images took more or fewer turns
            alike = _first_alike(values[alike:][::-1], counterparts[alike:][::-1])
            pairs += zip(values[::-1][:alike], counterparts[::-1][:alike], strict=True)
        shapes.update((v.index, w.shape) for v, w in pairs if len(v.shape) == len(w.shape))
    return shapes


def _first_alike(one: Sequence[Value], other: Sequence[Value]) -> int:
    """How many of the first values of two runs were made by the same operations."""
    return next(
        (n for n, (v, w) in enumerate(zip(one, other, strict=False)) if v.op != w.op), min(len(one), len(other))
    )


def _by_call(graph: Graph) -> dict[tuple[str, int], list[Value]]:
    made: dict[tuple[str, int], list[Value]] = collections.defaultdict(list)
    for value in graph.values:
        if value.op in ("param", "const"):
            continue
        call = graph.calls[value.calls[-1]] if value.calls else None
        made[(call.path, call.nth) if call else ("", -1)].append(value)
    return made


def _put_at_masks(graph: Graph) -> int:
    """Inputs (a bit mask) that reach the others' values at the places of a mask alone: images put among tokens."""
    given = sum(1 << value.index for value in graph.values if value.op == "input")
    apart = 0
    for value in graph.values:
        masked = any(graph.values[j].dtype is torch.bool for j in value.inputs[1:])
        if value.op in _WRITES_AT_A_MASK and masked and len(value.inputs) > 2:
            target, source = value.inputs[0], value.inputs[-1]
            apart |= graph.ancestors[source] & given & ~graph.ancestors[target]
    return apart


def _positions_first(graph: Graph) -> Iterator[int]:
    """What enters attention of torch's own that takes positions first."""
    for call in graph.calls:
        if isinstance(call.module, nn.MultiheadAttention) and not call.module.batch_first:
            yield from (p.value for p in call.inputs[:1] if len(graph.values[p.value].shape) == 3)
