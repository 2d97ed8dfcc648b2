"""Which values are activations: floats computed from the model's inputs, and integers that such floats were rounded to."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from graftwork.sites.discovery import ops
from graftwork.sites.discovery.values import Call, Value, is_list_child

_QUANTISED = (torch.int8, torch.uint8, torch.qint8, torch.quint8)
_ACCUMULATED = (torch.int16, torch.int32, torch.qint32)


def activations(values: Sequence[Value], calls: Sequence[Call], learned: Collection[int] = ()) -> list[bool]:
    """For each value of a record whether it is an activation.

    ``learned`` are values made of parameters alone that are streams all the same (learned queries).
    """
    # What the child of a list takes first is its stream, even where that is learned or zero (queries, latents).
    seeds = set(learned)
    for call in calls:
        if is_list_child(call.path):
            taken = (values[p.value] for p in call.inputs)
            seeds.update([value.index for value in taken if value.is_float and len(value.shape) >= 2][:1])
    active = [False] * len(values)
    from_floats = [False] * len(values)  # depends on a float input, through any types
    for value in values:
        i = value.index
        from_floats[i] = (value.op == "input" and value.is_float) or any(from_floats[j] for j in value.inputs)
        if not value.is_float:
            active[i] = from_floats[i] and _is_quantised(values, active, value)
        elif value.op in ("input", "embedding") or i in seeds or _is_lookup(values, from_floats, value):
            active[i] = from_floats[i] = True
        elif value.op == "opaque":
            active[i] = any(active[j] or values[j].op == "input" for j in value.inputs)
        elif value.op not in ops.CONTENT_FREE:
            active[i] = any(active[j] for j in value.inputs)
    return active


def _is_quantised(values: Sequence[Value], active: Sequence[bool], value: Value) -> bool:
    """Whether integers are rounded activations or products of such, and neither indices nor masks."""
    if value.dtype in _QUANTISED:
        return any(active[j] for j in value.inputs)
    return value.dtype in _ACCUMULATED and any(active[j] and not values[j].is_float for j in value.inputs)


def _is_lookup(values: Sequence[Value], from_floats: Sequence[bool], value: Value) -> bool:
    """Whether a value is a table of parameters indexed by input integers: an embedding written as an index."""
    taken = [values[j] for j in value.inputs]
    return (
        value.op in ("getitem", "index_select", "index", "gather")
        and any(v.op == "param" and len(v.shape) == 2 for v in taken)
        and any(not v.is_float and not from_floats[v.index] and v.op != "const" for v in taken)
    )
