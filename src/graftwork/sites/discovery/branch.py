"""The branches of residual sums: which there are, what each one does, and which are sites."""

from __future__ import annotations

import collections
import dataclasses

from graftwork.sites.discovery import ops
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.sums import ResidualSum, ResidualSums
from graftwork.sites.site import Kind

_ATTENDS = ("attention", "cross_attention")


@dataclasses.dataclass(slots=True)
class Branch:
    """One addend of a residual sum: a site to be, if it is kept."""

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
        for y in addends(sums, one):
            kind = branch_kind(graph, one, y)
            if kind != "feed_forward" or _has_weights(graph, one, y):
                branches.append(Branch(one, y, kind))
    by_sum = collections.defaultdict(list)
    nested_by_head = collections.defaultdict(list)
    for branch in branches:
        by_sum[branch.sum.value].append(branch)
        if branch.sum.inside:
            nested_by_head[branch.sum.head].append(branch)
    returned = sums.returned()
    kept = []
    for branch in branches:
        own_chain = bool(sums.found[branch.sum.head].inside)  # not a side road of the chain around it
        if branch.sum.value not in returned and not own_chain:
            continue
        if branch.sum.inside:
            family = nested_by_head[branch.sum.head]
            if len({b.sum.value for b in family}) >= 2 and any(b.kind in _ATTENDS for b in family):
                kept.append(branch)
        else:
            kept.append(branch)
    surrounding = {outer for branch in kept for outer in branch.sum.inside}
    for branch in kept:
        if branch.sum.value in surrounding:
            branch.kind = "composite"
    return kept


def settle_kinds(layer: list[Branch]) -> None:
    """Settles what only the other branches of a layer tell: a feed-forward with a small convolution inside.

    A branch that mixes positions without attention, after attention in a layer with no other feed-forward, is one.
    """
    kinds = [branch.kind for branch in layer]
    if "feed_forward" not in kinds and kinds.count("mixer") == 1 and kinds.index("mixer") == len(kinds) - 1 > 0:
        layer[-1].kind = "feed_forward"


def addends(sums: ResidualSums, one: ResidualSum) -> list[int]:
    """The branch operand of a sum, in parts where it is itself a sum of branches made in the same module call."""
    graph = sums.graph
    open_calls = graph.values[one.value].calls

    def split(y: int) -> list[int]:
        path = graph.path(y)
        for i in path:
            if any(graph.calls[c].depth >= len(open_calls) for c in graph.values[i].returned_by):
                return [y]
        inner = graph.values[path[-1]]
        active = graph.active_inputs(inner.index)
        is_inner_sum = inner.op == "add" and inner.index not in sums.found and inner.calls == open_calls
        if is_inner_sum and len(active) == 2 and all(graph.depends(j, one.origin) for j in active):
            return [*split(active[0]), *split(active[1])]
        return [y]

    return split(one.branch)


def branch_kind(graph: Graph, one: ResidualSum, branch: int) -> Kind:
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
        elif value.op in ops.POSITION_MIXING or value.op in ops.POOLINGS:
            mixes = True
        elif value.op in ops.CONVOLUTIONS:
            mixes |= kernel_size(graph, i) > 1
        elif _takes_three(graph, i):
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
    """Whether an unknown operation takes queries, keys and values, and says so in its name."""
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
    for j in graph.values[convolution].inputs:
        weight = graph.values[j]
        if not graph.active[j] and len(weight.shape) >= 3:
            size = 1
            for length in weight.shape[2:]:
                size *= int(length)
            return size
    return 1


def _named_attention(graph: Graph, one: ResidualSum, body: list[int]) -> bool:
    """Whether maps of the branch run in a module that is called an attention."""
    open_calls = graph.values[one.value].calls
    maps = [graph.values[i].calls for i in body if graph.is_map(i)]
    returned = {c for i in body for c in graph.values[i].returned_by if c not in open_calls}
    named = (c for c in returned if "attention" in type(graph.calls[c].module).__name__.lower())
    return any(c in calls for c in named for calls in maps)
