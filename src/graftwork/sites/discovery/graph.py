"""Questions about a record: which values are activations, what a value carries, and what depends on what.

Sets of ancestors are Python integers used as bit masks: bit ``i`` is value ``i``. A value's index is larger than those of
all values that it was made from.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from graftwork.sites.discovery import ops
from graftwork.sites.discovery.activity import activations
from graftwork.sites.discovery.record import Record
from graftwork.sites.discovery.values import Value, is_list_child

_AVERAGES = ops.POOLINGS | {"mean"}


class Graph:
    """A record with the relations that the search for residual sums needs.

    Attributes:
        values: The values of the record.
        calls: The module calls of the record.
        users: For each value, the values made from it.
        ancestors: For each value, all values it depends on.
        worked: For each value, the ancestors that it depends on through an operation with work of its own (a product, a
            norm, a non-linearity; not a view, a scale or an addition).
        active: For each value, whether it is an activation: a float that depends on the model's inputs, or integers that
            such a float was rounded to.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.values = [_centred(record.values, value) or value for value in record.values]
        self.calls = record.calls
        self.users: list[list[int]] = [[] for _ in self.values]
        self.ancestors = [0] * len(self.values)
        self.worked = [0] * len(self.values)
        self._highways: dict[int, int] = {}
        self._paths: dict[int, tuple[int, ...]] = {}
        for value in self.values:
            i, works = value.index, value.op not in ops.TRIVIAL
            for used in set(value.inputs):
                self.users[used].append(i)
                with_used = self.ancestors[used] | 1 << used
                self.ancestors[i] |= with_used
                self.worked[i] |= with_used if works else self.worked[used]
        self.active = activations(self.values, self.calls)
        learned = self._learned_streams()
        if learned:
            self.active = activations(self.values, self.calls, learned)
            self._paths.clear()
        self._highways = self._find_highways()
        self._paths.clear()

    def _learned_streams(self) -> set[int]:
        """Learned queries to which work on themselves is added: the stream of a resampler, though it is no input."""
        found = set()
        for value in self.values:
            if value.op != "add" or len(value.inputs) != 2:
                continue
            for other, learned in (value.inputs, value.inputs[::-1]):
                if not self.active[other] or self.active[learned] or self.values[learned].size != value.size:
                    continue
                points = self._of_a_parameter(learned)
                made_from_it = any(self.worked[other] >> point & 1 for point in points)
                work = self.source(other)
                if made_from_it and (self.is_map(work) or self.values[work].op in ops.FUSED_ATTENTION):
                    found.add(points[-1])
        return found

    def _of_a_parameter(self, index: int) -> list[int]:
        """A value and those before it down to the parameter that it is, re-laid out and scaled; else an empty list."""
        value = self.values[index]
        if value.op not in ops.CARRYING | ops.SCALING or not value.is_float:
            return []
        for used in value.inputs:
            if self.values[used].op == "param":
                return [index]
            if points := self._of_a_parameter(used):
                return [index, *points]
        return []

    def _find_highways(self) -> dict[int, int]:
        """What each product carries in ``g · x + h · y``, with gates `g` and `h` of the size of `x` and `y`."""
        found: dict[int, int] = {}
        for value in self.values:
            lanes = self.active_inputs(value.index)
            if value.op == "add" and len(lanes) == 2:
                carried = {m: x for m in map(self.source, lanes) if (x := self._gated_by_sigmoid(m)) is not None}
                if len(carried) == 2:
                    found |= carried
        return found

    def _gated_by_sigmoid(self, index: int) -> int | None:
        value, factors = self.values[index], self.active_inputs(index)
        if value.op != "mul" or len(factors) != 2 or {self.values[j].size for j in factors} != {value.size}:
            return None
        others = [j for j in factors if self.values[self.source(j)].op != "sigmoid"]
        return others[0] if len(others) == 1 else None

    def active_inputs(self, index: int) -> list[int]:
        """The activations that a value was made from, in the order of the arguments."""
        return [j for j in self.values[index].inputs if self.active[j]]

    def depends(self, index: int, on: int) -> bool:
        """Whether a value was made from another one, or is it."""
        return bool((self.ancestors[index] | 1 << index) >> on & 1)

    def previous(self, index: int) -> int | None:
        """The one activation that a value carries, re-laid out, scaled, shifted or gated; `None` for real work."""
        value = self.values[index]
        active = self.active_inputs(index)
        if value.op in ops.CARRYING:
            return active[0] if len(active) == 1 or (active and value.op != "where") else None
        if value.op in ops.SCALING or value.op in ("add", "sub"):
            if len(active) == 1:
                return active[0]
            if value.op == "mul" and len(active) == 2:
                return self._highways.get(index) or self._gated(value, *active)
        return None

    def _gated(self, value: Value, one: int, other: int) -> int | None:
        """The larger factor of a product, where the smaller one is a gate and not made from it (that would be a norm)."""
        sizes = self.values[one].size, self.values[other].size
        if sizes[0] == sizes[1] or min(sizes) >= value.size:
            return None
        carried, gate = (one, other) if sizes[0] > sizes[1] else (other, one)
        return None if self.depends(gate, self.source(carried)) else carried

    def is_map(self, index: int) -> bool:
        """Whether a value is a weighted map of an activation: a product with weights, or an unknown operation.

        A sequence of unknown operations in one call is one map: rounding, a product of integers, scaling back.
        """
        value = self.values[index]
        if ops.is_unknown(value.op):
            before = (self.values[self.source(j)] for j in self.active_inputs(index))
            return not any(ops.is_unknown(v.op) and v.calls == value.calls for v in before)
        weights = (self.values[j] for j in value.inputs if not self.active[j])
        return value.op in ops.WEIGHTED and any(weight.op != "const" for weight in weights)

    def ungated(self, index: int) -> int:
        """What a term of ``g · x + h · y`` carries before its gate; any other value itself."""
        return next((self._highways[i] for i in self.path(index) if i in self._highways), index)

    def path(self, index: int) -> tuple[int, ...]:
        """A value and everything that it carries, latest first."""
        path = self._paths.get(index)
        if path is None:
            found = [index]
            while (step := self.previous(found[-1])) is not None:
                found.append(step)
            path = self._paths[index] = tuple(found)
        return path

    def source(self, index: int) -> int:
        """The earliest value that a value carries."""
        return self.path(index)[-1]

    def same_content(self, index: int) -> list[int]:
        """A value and those before it that hold the same numbers in the same shape, of any type, latest first."""
        found = [index]
        for value, before in itertools.pairwise(self.path(index)):
            same_shape = self.values[value].shape == self.values[before].shape
            if self.values[value].op not in ops.SAME_CONTENT or not same_shape:
                break
            found.append(before)
        return found

    def normed(self, index: int) -> int | None:
        """The value that a norm took, where a value carries what the norm returned."""
        for i in self.path(index):
            for c in self.values[i].returned_by:
                call = self.calls[c]
                if ops.is_norm(call.module):
                    taken = [p.value for p in call.inputs if self.active[p.value]]
                    if taken:
                        return taken[0]
            if self.values[i].op in ops.NORMS and (active := self.active_inputs(i)):
                return active[0]
        return None

    def between(self, start: int, end: int) -> list[int]:
        """The activations that were made from `start` and that `end` was made from, and `end` itself."""
        reach = self.ancestors[end] | 1 << end
        return [
            i for i in range(start + 1, end + 1) if reach >> i & 1 and self.active[i] and self.ancestors[i] >> start & 1
        ]

    def list_children(self, value: int) -> list[int]:
        """The open calls of children of lists while a value was made, outermost first."""
        return [c for c in self.values[value].calls if is_list_child(self.calls[c].path)]


def _centred(values: Sequence[Value], value: Value) -> Value | None:
    """A value minus its own average, moving or not, as one that carries it; ``None`` for any other difference."""
    if value.op != "sub" or len(value.inputs) != 2 or not value.is_float:
        return None
    whole, average = value.inputs
    pooled, seen, waiting = False, {whole}, [average]
    while waiting:
        i = waiting.pop()
        if i in seen:
            continue
        seen.add(i)
        if not values[i].inputs or values[i].op not in ops.CARRYING | ops.JOINS | _AVERAGES:
            return None
        pooled |= values[i].op in _AVERAGES
        waiting += [j for j in values[i].inputs if values[j].is_float]
    return dataclasses.replace(value, op="centred", inputs=(whole,)) if pooled else None
