"""The branches of residual sums: which there are, what each one does, and which are sites."""

from __future__ import annotations

import collections
import dataclasses
import math

from graftwork.sites.discovery import ops
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.sums import ResidualSum, ResidualSums
from graftwork.sites.site import Kind

ATTENTIONS = ("attention", "cross_attention")


@dataclasses.dataclass(slots=True)
class Branch:
    """One addend of a residual sum: it becomes a site if it is kept."""

    sum: ResidualSum
    value: int
    kind: Kind


def find_branches(sums: ResidualSums) -> list[Branch]:
    """The branches that are sites, in the order of their sums.

    Sums inside another sum's branch are part of it, unless they are a stack of their own that attends: then the outer
    branch is a composite. Sums that their block never returns are part of something else.
    """
    graph = sums.graph
    branches = []
    for one in sums.found.values():
        for y in _addends(sums, one, one.branch):
            kind = _kind(graph, one, y)
            if kind != "feed_forward" or _has_weights(graph, one, y):
                branches.append(Branch(one, y, kind))
    nested_by_head = collections.defaultdict(list)
    for branch in branches:
        if branch.sum.inside:
            nested_by_head[branch.sum.head].append(branch)
    returned = sums.returned()
    kept = []
    for branch in branches:
        own_chain = bool(sums.found[branch.sum.head].inside)  # not on a side path of the chain around it
        family = nested_by_head[branch.sum.head]
        own_stack = len({b.sum.value for b in family}) >= 2 and any(b.kind in ATTENTIONS for b in family)
        if (branch.sum.value in returned or own_chain) and (own_stack or not branch.sum.inside):
            kept.append(branch)
    surrounding = {outer for branch in kept for outer in branch.sum.inside}
    for branch in kept:
        if branch.sum.value in surrounding:
            branch.kind = "composite"
    return kept


def settle_kinds(layer: list[Branch]) -> None:
    """Correct the kind of a feed-forward with a small convolution inside, which only the rest of its layer shows.

    It is the one branch that mixes positions without attention, the last of a layer with no other feed-forward.
    """
    kinds = [branch.kind for branch in layer]
    if "feed_forward" not in kinds and kinds.count("mixer") == 1 and kinds.index("mixer") == len(kinds) - 1 > 0:
        layer[-1].kind = "feed_forward"


def _addends(sums: ResidualSums, one: ResidualSum, y: int) -> list[int]:
    """A branch operand of a sum, in parts where it is itself a sum of branches made in the same module call."""
    graph = sums.graph
    open_calls = graph.values[one.value].calls
    path = graph.path(y)
    if any(graph.calls[c].depth >= len(open_calls) for i in path for c in graph.values[i].returned_by):
        return [y]
    inner = graph.values[path[-1]]
    active = graph.active_inputs(inner.index)
    is_inner_sum = inner.op == "add" and inner.index not in sums.found and inner.calls == open_calls
    if is_inner_sum and len(active) == 2 and all(graph.depends(j, one.origin) for j in active):
        return [*_addends(sums, one, active[0]), *_addends(sums, one, active[1])]
    return [y]


def _kind(graph: Graph, one: ResidualSum, branch: int) -> Kind:
    """What a branch does, from the operations between the stream and the sum; a class name is the last resort."""
    values = graph.values
    body = graph.between(one.origin, branch)
    softmaxes = [i for i in body if is_softmax(graph, i)]
    attends = crosses = mixes = samples_other = False
    for i in body:
        value = values[i]
        active = graph.active_inputs(i)
        if value.op in ops.FUSED_ATTENTION or is_attention_kernel(graph, i):
            attends = True
            crosses |= len(active) >= 2 and not graph.depends(active[1], one.origin)
        elif value.op in ops.PRODUCTS and len(active) >= 2:
            pair = active[-2:] if value.op == "baddbmm" else active
            if min(len(values[pair[0]].shape), len(values[pair[1]].shape)) < 2:
                continue
            weights = [j for j in pair if any(graph.depends(j, s) for s in softmaxes)]
            if weights:
                attends = True
                content = [j for j in pair if j not in weights]
                crosses |= bool(content) and not graph.depends(content[0], one.origin)
            elif not softmaxes:
                mixes = True
        elif value.op in ops.SAMPLING:  # deformable attention reads a few points of a map
            samples_other |= bool(active) and not graph.depends(active[0], one.origin)
        elif value.op in ops.CONVOLUTIONS:
            mixes |= kernel_size(graph, i) > 1
        elif value.op in ops.POSITION_MIXING or value.op in ops.POOLINGS or _takes_three(graph, i):
            mixes = True
    if crosses:
        return "cross_attention"
    if attends:
        return "attention"
    if mixes:
        return "mixer"
    if _named_attention(graph, one, body):
        return "cross_attention" if samples_other else "attention"
    return "feed_forward"


def is_softmax(graph: Graph, index: int) -> bool:
    """Whether a value is a softmax, or what an unknown operation makes of scores: products of two activations."""
    value, active = graph.values[index], graph.active_inputs(index)
    if not ops.is_unknown(value.op) or len(value.inputs) != 1 or not active:
        return value.op in ops.SOFTMAX
    scores = graph.values[graph.source(active[0])]
    return scores.op in ops.PRODUCTS and len(graph.active_inputs(scores.index)) >= 2 and scores.shape == value.shape


def is_attention_kernel(graph: Graph, index: int) -> bool:
    """Whether an unknown operation takes queries, keys and values, and has attention in its name."""
    named = any(part in graph.values[index].op.lower() for part in ("attn", "attention"))
    return named and _takes_three(graph, index)


def _takes_three(graph: Graph, index: int) -> bool:
    shapes = [graph.values[j].shape for j in graph.active_inputs(index)]
    return ops.is_unknown(graph.values[index].op) and sum(len(shape) >= 3 for shape in shapes) >= 3


def _has_weights(graph: Graph, one: ResidualSum, branch: int) -> bool:
    """Whether a branch passes any weighted map: an activation such as ``x + sin²(x)`` is no feed-forward."""
    return any(ops.is_weighted(graph.values[i].op) for i in graph.between(one.origin, branch))


def kernel_size(graph: Graph, convolution: int) -> int:
    """The number of points that a convolution's kernel covers."""
    inputs = [graph.values[j] for j in graph.values[convolution].inputs if not graph.active[j]]
    return next((math.prod(weight.shape[2:]) for weight in inputs if len(weight.shape) >= 3), 1)


def _named_attention(graph: Graph, one: ResidualSum, body: list[int]) -> bool:
    """Whether weighted maps of the branch run in a module whose class is named an attention."""
    open_calls = graph.values[one.value].calls
    maps = [graph.values[i].calls for i in body if graph.is_map(i)]
    returned = {c for i in body for c in graph.values[i].returned_by if c not in open_calls}
    named = (c for c in returned if "attention" in type(graph.calls[c].module).__name__.lower())
    return any(c in calls for c in named for calls in maps)
