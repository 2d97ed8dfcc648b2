"""Finding the additions that feed a residual stream, and linking them into chains."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from graftwork.sites.discovery import ops
from graftwork.sites.discovery.graph import Graph

_CARRY_ALL = ops.JOINS | frozenset(
    "setitem index_put where masked_scatter index_copy scatter add alias relu silu gelu".split()
)


@dataclasses.dataclass(slots=True)
class ResidualSum:
    """An addition ``stream + branch`` where the branch was made from the stream.

    Attributes:
        value: The sum.
        stream: The operand that carries the stream.
        branch: The other operand.
        origin: The point of the stream that the branch was made from.
        projected: Whether the stream itself passed a weighted map (a down-sampling shortcut).
        earlier: The sums that the stream carries, latest first; a sum with none is itself the head of its chain.
        inside: The sums whose branch contains this sum.
    """

    value: int
    stream: int
    branch: int
    origin: int
    projected: bool = False
    earlier: list[int] = dataclasses.field(default_factory=list)
    inside: list[int] = dataclasses.field(default_factory=list)

    @property
    def head(self) -> int:
        """The first sum of the chain it belongs to."""
        return self.earlier[-1] if self.earlier else self.value


class ResidualSums:
    """Every residual sum of a graph, by its value's index."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.found: dict[int, ResidualSum] = {}
        self._carried: dict[int, frozenset[int]] = {}
        for value in graph.values:
            if value.op in ops.SUMS and graph.active[value.index]:
                found = self._as_residual(value.index)
                if found is not None:
                    self.found[value.index] = found
        for one in self.found.values():
            one.earlier = self._earlier(one)
        self._find_nested()

    # -- one addition

    def _as_residual(self, index: int) -> ResidualSum | None:
        operands = self._operands(index)
        if operands is None:
            return None
        value = self.graph.values[index]
        candidates = []
        for stream, branch in (operands, operands[::-1]):
            met = self._meet(stream, self.graph.ungated(branch))
            if met is not None:
                candidates.append((*met, stream, branch))
        if not candidates:
            return self._projected(index, *operands) if value.op == "add" else None
        _, origin, stream, branch = min(candidates, key=lambda candidate: candidate[0])
        if set(self._stream_points(branch)) & set(self._stream_points(stream)):
            return None  # both carry the stream: a long skip
        if value.op == "sub" and branch == operands[0]:
            return None
        return ResidualSum(index, self.graph.ungated(stream), branch, origin)

    def _operands(self, index: int) -> tuple[int, int] | None:
        value, values = self.graph.values[index], self.graph.values
        active = self.graph.active_inputs(index)
        if len(active) < 2:
            return None
        if value.op == "addcmul":  # a + b · c: the larger activation of the product is the other operand
            one = value.inputs[0]
            other = max(value.inputs[1:], key=lambda j: (self.graph.active[j], values[j].size))
        else:
            one, other = active[:2]
            if not values[one].size == values[other].size == value.size:
                return None
        return None if one == other else (one, other)

    def _stream_points(self, index: int) -> list[int]:
        """A value and every earlier point of the stream that it carries without any work."""
        points: list[int] = []
        while True:
            points += self.graph.path(index)
            last = self.found.get(points[-1])
            if last is None:
                return points
            index = last.stream

    def _meet(self, stream: int, branch: int) -> tuple[int, int] | None:
        """How many sums back, and where, the stream holds a point that work made the branch from."""
        worked = self.graph.worked[branch]
        sums_back = 0
        while True:
            path = self.graph.path(stream)
            for point in path:
                if worked >> point & 1:
                    return sums_back, point
            last = self.found.get(path[-1])
            if last is None:
                return None
            stream, sums_back = last.stream, sums_back + 1

    def _projected(self, index: int, one: int, other: int) -> ResidualSum | None:
        """``P(x) + f(x)``: at most one weighted map on the stream's side, two or more on the branch's."""
        graph = self.graph
        blocks = graph.list_children(index)
        if not blocks:
            return None
        block = graph.calls[blocks[-1]]
        points = [v for v in reversed(self.found) if v >= block.first_value]
        points += [p.value for p in block.inputs if graph.active[p.value]][:1]
        shared = graph.ancestors[one] & graph.ancestors[other]
        point = next((point for point in points if shared >> point & 1), None)
        if point is None:
            return None
        candidates = []
        for stream, branch in ((one, other), (other, one)):
            fewest, most = self._maps(point, stream, min), self._maps(point, branch, max)
            if fewest > 1 or most < 2 or self._is_filtered(point, stream) or not graph.worked[branch] >> point & 1:
                continue
            if self._maps(point, stream, max) < most:
                candidates.append((fewest, stream, branch))
        if not candidates:
            return None
        _, stream, branch = min(candidates, key=lambda candidate: candidate[0])
        return ResidualSum(index, stream, branch, point, projected=True)

    def _is_filtered(self, point: int, stream: int) -> bool:
        """Whether a stream is only moving averages of the point, of the same shape, and no shortcut to a smaller map."""
        values = self.graph.values
        made_by = {values[i].op for i in self.graph.between(point, stream)}
        return (
            bool(made_by & ops.POOLINGS)
            and made_by <= ops.TRIVIAL | ops.POOLINGS
            and values[stream].shape == values[point].shape
        )

    def _maps(self, start: int, end: int, choose: Callable[[Iterable[int]], int]) -> int:
        """The number of weighted maps on a path from `start` to `end`, the fewest or the most."""
        graph = self.graph
        reach = graph.ancestors[end] | 1 << end
        counts = {start: 0}
        for i in range(start + 1, end + 1):
            value = graph.values[i]
            if not reach >> i & 1:
                continue
            before = [counts[j] for j in value.inputs if j in counts]
            if before:
                counts[i] = choose(before) + (value.op in ops.FUSED_ATTENTION or graph.is_map(i))
        return counts[end]

    # -- all of them

    def _earlier(self, one: ResidualSum) -> list[int]:
        earlier: list[int] = []
        while not one.projected:
            source = self.graph.source(one.stream)
            if source not in self.found:
                normed = self.graph.normed(one.stream)
                source = self.graph.source(normed) if normed is not None else source
                if source not in self.found:
                    break
            earlier.append(source)
            one = self.found[source]
        return earlier

    def _find_nested(self) -> None:
        graph = self.graph
        chains = {v: {*one.earlier, one.head} for v, one in self.found.items()}
        for value, one in self.found.items():
            one.inside = [
                other
                for other, outer in self.found.items()
                if other != value
                and graph.depends(outer.branch, value)
                and graph.ancestors[value] >> outer.origin & 1
                and other not in chains[value]
                and value not in chains[other]
            ]

    def same_streams(self, one: ResidualSum) -> list[int]:
        """The stream of a sum, and of the sums before it that branches from the same point were added in."""
        streams = [one.stream]
        while (before := self.found.get(self.graph.source(one.stream))) is not None and before.origin == one.origin:
            streams.append(before.stream)
            one = before
        return streams

    def carried(self, index: int) -> frozenset[int]:
        """Every value that one carries in whole or in part: through sums, norms, joins and partial writes."""
        known = self._carried.get(index)
        if known is not None:
            return known
        graph = self.graph
        seen: set[int] = set()
        waiting = [index]
        while waiting:
            i = waiting.pop()
            if i in seen:
                continue
            if i in self._carried:
                seen |= self._carried[i]
                continue
            seen.add(i)
            waiting += graph.path(i)[1:]
            if i in self.found:
                waiting.append(self.found[i].stream)
                if self.found[i].projected:
                    waiting.append(self.found[i].origin)
            if graph.values[i].op in _CARRY_ALL:
                waiting += graph.active_inputs(i)
            if (normed := graph.normed(i)) is not None:
                waiting.append(normed)
        self._carried[index] = frozenset(seen)
        return self._carried[index]

    def returned(self) -> set[int]:
        """The sums that reach an output of a block they were made in, and the earlier sums of their chains."""
        graph = self.graph
        reaching: set[int] = set()
        for value, one in self.found.items():
            blocks = graph.list_children(value)
            outputs = {p.value for c in blocks for p in graph.calls[c].outputs if graph.active[p.value]}
            if not blocks or any(value in self.carried(output) for output in outputs):
                reaching.update([value, *one.earlier])
        return reaching
