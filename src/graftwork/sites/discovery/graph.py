"""Questions about a record: which values are activations, what a value carries, and what depends on what.

Sets of ancestors are Python integers used as bit masks: bit ``i`` stands for value ``i``. A value's index is larger
than those of all it was made from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from graftwork.sites.discovery import ops
from graftwork.sites.discovery.activity import activations
from graftwork.sites.discovery.record import Record
from graftwork.sites.discovery.values import Call, Value, is_list_child

_AVERAGES = ops.POOLINGS | {"mean"}


class NormStep(NamedTuple):
    """A value that a norm returned: the norm's call (`None` for a bare function) and the value it took."""

    call: Call | None
    taken: int


class Graph:
    """A record with the relations that the search for residual sums needs.

    Attributes:
        values: The values of the record.
        calls: The module calls of the record.
        users: For each value, the values made from it.
        ancestors: For each value, all it depends on.
        worked: For each value, the ancestors that some operation with work of its own lies behind (a product, a norm,
            a non-linearity; not a view, a scale or an addition).
        active: Whether a value is a float that depends on what the model was given, or what such a one was rounded to.
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
            for used in set(value.inputs):
                self.users[used].append(value.index)
        self._find_ancestors()
        self.active = activations(self.values, self.calls)
        learned = self._learned_streams()
        if learned:
            self.active = activations(self.values, self.calls, learned)
        self._paths.clear()
        self._highways = self._find_highways()
        self._paths.clear()

    def _find_ancestors(self) -> None:
        for value in self.values:
            every = through_work = 0
            works = value.op not in ops.TRIVIAL
            for used in value.inputs:
                with_used = self.ancestors[used] | 1 << used
                every |= with_used
                through_work |= with_used if works else self.worked[used]
            self.ancestors[value.index] = every
            self.worked[value.index] = through_work

    def _learned_streams(self) -> set[int]:
        """Learned queries to which work on themselves is added: the stream of a resampler, though the model is given none."""
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
        """A value and those before it down to the parameter that it is, laid out and scaled; empty if it is none."""
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
        """Of the products in ``g · x + h · y`` with gates `g` and `h` as wide as they: what each one carries."""
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
        """The one activation that a value carries on, re-laid out, scaled, shifted or gated; `None` for real work."""
        value = self.values[index]
        active = self.active_inputs(index)
        if not active:
            return None
        if value.op in ops.CARRYING:
            return None if value.op == "where" and len(active) > 1 else active[0]
        if value.op in ops.SCALING or value.op in ("add", "sub"):
            if len(active) == 1:
                return active[0]
            if value.op == "mul" and len(active) == 2:
                return self._highways.get(index) or self._gated(value, *active)
        return None

    def _gated(self, value: Value, one: int, other: int) -> int | None:
        """In ``x · g`` with a smaller `g` that was not made from `x` (that would be a norm), `x` is carried."""
        sizes = self.values[one].size, self.values[other].size
        if sizes[0] == sizes[1] or min(sizes) >= value.size:
            return None
        carried, gate = (one, other) if sizes[0] > sizes[1] else (other, one)
        return None if self.depends(gate, self.source(carried)) else carried

    def is_map(self, index: int) -> bool:
        """Whether a value is a weighted map of an activation: a product with weights, or an unknown operation.

        Unknown operations after each other in one call are one map: rounding, a product of integers, scaling back.
        """
        value = self.values[index]
        if ops.is_unknown(value.op):
            before = (self.values[self.source(j)] for j in self.active_inputs(index))
            return not any(ops.is_unknown(v.op) and v.calls == value.calls for v in before)
        weights = (self.values[j] for j in value.inputs if not self.active[j])
        return value.op in ops.WEIGHTED and any(weight.op != "const" for weight in weights)

    def ungated(self, index: int) -> int:
        """What a lane of ``g · x + h · y`` carries in front of its gate; any other value itself."""
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
        """The far end of a value's carry path."""
        return self.path(index)[-1]

    def same_content(self, index: int) -> list[int]:
        """A value and those before it that hold the same numbers in the same shape, of any type, latest first."""
        found = [index]
        while True:
            value = self.values[found[-1]]
            step = self.previous(value.index)
            if step is None or value.op not in ops.SAME_CONTENT:
                return found
            before = self.values[step]
            if before.shape != value.shape:
                return found
            found.append(step)

    def norm_step(self, index: int) -> NormStep | None:
        """The norm whose result a value carries."""
        for i in self.path(index):
            for c in self.values[i].returned_by:
                call = self.calls[c]
                if ops.is_norm(call.module):
                    taken = [p.value for p in call.inputs if self.active[p.value]]
                    if taken:
                        return NormStep(call, taken[0])
            if self.values[i].op in ops.NORMS:
                active = self.active_inputs(i)
                if active:
                    return NormStep(None, active[0])
        return None

    def between(self, start: int, end: int) -> list[int]:
        """The activations that were made from `start` and that `end` was made from, `end` with them."""
        reach = self.ancestors[end] | 1 << end
        return [
            i for i in range(start + 1, end + 1) if reach >> i & 1 and self.active[i] and self.ancestors[i] >> start & 1
        ]

    def list_children(self, value: int) -> list[int]:
        """The open calls of children of lists while a value was made, outermost first."""
        return [c for c in self.values[value].calls if is_list_child(self.calls[c].path)]


def _centred(values: Sequence[Value], value: Value) -> Value | None:
    """A value less its own average, moving or not, as one that carries it; ``None`` for any other difference."""
    if value.op != "sub" or len(value.inputs) != 2 or not value.is_float:
        return None
    whole, average = value.inputs
    pooled, seen, waiting = False, set(), [average]
    while waiting:
        i = waiting.pop()
        if i == whole or i in seen:
            continue
        seen.add(i)
        if not values[i].inputs or values[i].op not in ops.CARRYING | ops.JOINS | _AVERAGES:
            return None
        pooled |= values[i].op in _AVERAGES
        waiting += [j for j in values[i].inputs if values[j].is_float]
    return dataclasses.replace(value, op="centred", inputs=(whole,)) if pooled else None
