"""Questions about a record: which values are activations, what a value carries, and what depends on what.

Sets of ancestors are Python integers used as bit masks: bit ``i`` stands for value ``i``. A value's index is larger
than those of all it was made from.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from graftwork.sites import ops
from graftwork.sites.record import Record
from graftwork.sites.values import Call, Value

_QUANTISED = (torch.int8, torch.uint8, torch.qint8, torch.quint8)
_ACCUMULATED = (torch.int16, torch.int32, torch.qint32)


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
        self.values = record.values
        self.calls = record.calls
        self.users: list[list[int]] = [[] for _ in self.values]
        self.ancestors = [0] * len(self.values)
        self.worked = [0] * len(self.values)
        self.active = [False] * len(self.values)
        self._paths: dict[int, tuple[int, ...]] = {}
        for value in self.values:
            for used in set(value.inputs):
                self.users[used].append(value.index)
        self._find_ancestors()
        self._find_active()

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

    def _find_active(self) -> None:
        # What the child of a list takes first is its stream, even where that is learned or zero (queries, latents).
        seeds = set()
        for call in self.calls:
            if is_list_child(call.path):
                taken = [self.values[p.value] for p in call.inputs]
                floats = [value.index for value in taken if value.is_float and len(value.shape) >= 2]
                seeds.update(floats[:1])
        given = [False] * len(self.values)  # depends on a float input, through any types
        for value in self.values:
            i = value.index
            given[i] = (value.op == "input" and value.is_float) or any(given[j] for j in value.inputs)
            if not value.is_float:
                self.active[i] = given[i] and self._is_quantised(value)
                continue
            if value.op == "input" or value.op == "embedding" or i in seeds or self._is_lookup(value, given):
                self.active[i] = given[i] = True
            elif value.op == "opaque":
                self.active[i] = any(self.active[j] or self.values[j].op == "input" for j in value.inputs)
            elif value.op not in ops.CONTENT_FREE:
                self.active[i] = any(self.active[j] for j in value.inputs)

    def _is_quantised(self, value: Value) -> bool:
        """Integers that activations were rounded to, and products of such: neither indices nor masks."""
        if value.dtype in _QUANTISED:
            return any(self.active[j] for j in value.inputs)
        return value.dtype in _ACCUMULATED and any(self.active[j] and not self.values[j].is_float for j in value.inputs)

    def _is_lookup(self, value: Value, given: list[bool]) -> bool:
        """A table of parameters indexed by integers that the model was given: an embedding written as an index."""
        if value.op not in ("getitem", "index_select", "index", "gather"):
            return False
        taken = [self.values[j] for j in value.inputs]
        table = any(v.op == "param" and len(v.shape) == 2 for v in taken)
        chosen = any(not v.is_float and not given[v.index] and v.op != "const" for v in taken)
        return table and chosen

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
                return self._gated(value, *active)
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


def is_list_child(path: str) -> bool:
    """Whether a dotted path ends in a number."""
    return path.rpartition(".")[2].isdigit()
