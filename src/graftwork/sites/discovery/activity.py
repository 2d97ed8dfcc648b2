"""Which values are activations: floats reached from what the model is given, and what such a one was rounded to."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from graftwork.sites.discovery import ops
from graftwork.sites.discovery.values import Call, Value, is_list_child

_QUANTISED = (torch.int8, torch.uint8, torch.qint8, torch.quint8)
_ACCUMULATED = (torch.int16, torch.int32, torch.qint32)


def activations(values: Sequence[Value], calls: Sequence[Call], learned: Collection[int] = ()) -> list[bool]:
    """For each value whether it is an activation.

    Args:
        values: The values of a record.
        calls: Its module calls.
        learned: Values made of parameters alone that are streams all the same (learned queries).
    """
    # What the child of a list takes first is its stream, even where that is learned or zero (queries, latents).
    seeds = set(learned)
    for call in calls:
        if is_list_child(call.path):
            taken = [values[p.value] for p in call.inputs]
            floats = [value.index for value in taken if value.is_float and len(value.shape) >= 2]
            seeds.update(floats[:1])
    active = [False] * len(values)
    given = [False] * len(values)  # depends on a float input, through any types
    for value in values:
        i = value.index
        given[i] = (value.op == "input" and value.is_float) or any(given[j] for j in value.inputs)
        if not value.is_float:
            active[i] = given[i] and _is_quantised(values, active, value)
        elif value.op == "input" or value.op == "embedding" or i in seeds or _is_lookup(values, given, value):
            active[i] = given[i] = True
        elif value.op == "opaque":
            active[i] = any(active[j] or values[j].op == "input" for j in value.inputs)
        elif value.op not in ops.CONTENT_FREE:
            active[i] = any(active[j] for j in value.inputs)
    return active


def _is_quantised(values: Sequence[Value], active: list[bool], value: Value) -> bool:
    """Integers that activations were rounded to, and products of such: neither indices nor masks."""
    if value.dtype in _QUANTISED:
        return any(active[j] for j in value.inputs)
    return value.dtype in _ACCUMULATED and any(active[j] and not values[j].is_float for j in value.inputs)


def _is_lookup(values: Sequence[Value], given: list[bool], value: Value) -> bool:
    """A table of parameters indexed by integers that the model was given: an embedding written as an index."""
    if value.op not in ("getitem", "index_select", "index", "gather"):
        return False
    taken = [values[j] for j in value.inputs]
    table = any(v.op == "param" and len(v.shape) == 2 for v in taken)
    chosen = any(not v.is_float and not given[v.index] and v.op != "const" for v in taken)
    return table and chosen
