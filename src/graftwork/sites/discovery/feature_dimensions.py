"""Which dimensions of a value norms and weighted maps next to it work on."""

from __future__ import annotations

import collections
from collections.abc import Iterator

from torch import nn

from graftwork.sites.discovery import ops
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.values import Call, Value

_SELECTIONS = frozenset("getitem narrow slice pad constant_pad_nd".split())
_FAR = 40  # values looked at around one


def dimensions_worked_on(graph: Graph, start: int) -> Iterator[tuple[int, bool]]:
    """The dimensions that norms and maps work on, of a value and of what has its layout; true for norms."""
    rank = len(graph.values[start].shape)
    seen = {start}
    waiting = collections.deque([start])
    while waiting and len(seen) < _FAR:
        i = waiting.popleft()
        yield from _modules_at(graph, i)
        for j in (i, *graph.users[i]):
            yield from _operations_at(graph, graph.values[j], i)
        near = [j for j in graph.users[i] if _keeps(graph, j, i)]
        near += [j for j in graph.active_inputs(i) if _keeps(graph, i, j)]
        for j in near:
            if j not in seen and len(graph.values[j].shape) == rank:
                seen.add(j)
                waiting.append(j)


def _modules_at(graph: Graph, value: int) -> Iterator[tuple[int, bool]]:
    shape = graph.values[value].shape
    for c in {*graph.values[value].taken_by, *graph.values[value].returned_by}:
        dimension = _normed(graph.calls[c], shape)
        if dimension is not None:
            yield dimension, True


def _keeps(graph: Graph, made: int, of: int) -> bool:
    """Whether a value has its dimensions where one that it was made of has them: shorter, or with more added."""
    value = graph.values[made]
    if not graph.active[made] or value.op in ops.MOVES or value.op not in ops.TRIVIAL:
        return False
    return value.shape == graph.values[of].shape or value.op in _SELECTIONS


def _normed(call: Call, shape: tuple[int, ...]) -> int | None:
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
