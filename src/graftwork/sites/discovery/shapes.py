"""The shapes that the values of a run have in runs of the same model at other sizes."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.values import Value

Shape = tuple[int, ...]


class Shapes:
    """The shapes of the values of one graph, in its own run and in runs of the same model at other sizes."""

    def __init__(self, graph: Graph, others: Sequence[Graph] = ()) -> None:
        self.graph = graph
        self._others = [_aligned(graph, other) for other in others]
        self.runs = 1 + len(self._others)

    def of(self, value: int) -> list[Shape | None]:
        """The shape in each run, the graph's own first; ``None`` in a run that took another path there."""
        return [self.graph.values[value].shape, *(shapes.get(value) for shapes in self._others)]

    def sizes(self, value: int, dimension: int) -> list[int]:
        """The sizes of one dimension, in the runs that show the value."""
        return [shape[dimension] for shape in self.of(value) if shape is not None]

    def same(self, one: int, other: int) -> bool:
        """Whether two values have the same shape, in every run that shows both."""
        pairs = zip(self.of(one), self.of(other), strict=True)
        return all(a == b for a, b in pairs if a is not None and b is not None)


def _aligned(graph: Graph, other: Graph) -> dict[int, Shape]:
    """For each value of a graph the shape of its counterpart in another one.

    Counterparts are the values made directly in the same call of the same module, one after another from its beginning and
    from its end, as long as both runs did the same.
    """
    shapes: dict[int, Shape] = {}
    counterparts_by_call = _by_call(other)
    for call, values in _by_call(graph).items():
        counterparts = counterparts_by_call.get(call, [])
        alike = _first_alike(values, counterparts)
        pairs = [*zip(values[:alike], counterparts[:alike], strict=True)]
        if alike < len(values):  # a loop over rows or images had more or fewer turns
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
        if value.op not in ("param", "const"):
            call = graph.calls[value.calls[-1]] if value.calls else None
            made[(call.path, call.nth) if call else ("", -1)].append(value)
    return made
