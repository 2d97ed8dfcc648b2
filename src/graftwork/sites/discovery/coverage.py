"""The attentions and feed-forwards that ran, and whether each is in the branch of a site.

An attention is a fused kernel, or a softmax that weighs other activations. A feed-forward is a weighted map, a non-linearity
and another weighted map, at each position by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Literal

import torch

from graftwork.sites.discovery import ops
from graftwork.sites.discovery.assemble import Findings, FoundSite
from graftwork.sites.discovery.branch import is_attention_kernel, is_softmax, kernel_size
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.layers import list_children_of
from graftwork.sites.discovery.values import Call, is_list_child

_MIXING = ops.FUSED_ATTENTION | ops.SOFTMAX | ops.PRODUCTS | ops.POSITION_MIXING | ops.POOLINGS | ops.SAMPLING


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """An attention or a feed-forward that ran.

    Attributes:
        kind: Which of the two.
        value: Index of the value that it makes: attended, or projected back; of hand-written attention the weights.
        path: Dotted path of the innermost module that it ran in.
        block: Dotted path of the innermost child of a list around it that is a layer; ``""`` where there is none.
        covered: Whether it is in the branch of a site.
        leaves: Whether what its block returns was made from it, and has the shape of what the block took: a block that
            merges positions or changes the width has no stream to add to.
    """

    kind: Literal["attention", "feed_forward"]
    value: int
    path: str
    block: str
    covered: bool
    leaves: bool

    @property
    def lost(self) -> bool:
        """Whether it is in a layer and in no site: adapters at every site would miss it."""
        return bool(self.block) and not self.covered and self.leaves


def operations(findings: Findings) -> list[Operation]:
    """Every attention and every feed-forward of a run, in order.

    Attention counts in the child of any list, a feed-forward only in a list with sites: elsewhere small networks are heads,
    stems, projections between stacks, encodings of positions.
    """
    graph = findings.graph
    sites = [found for found in findings.sites if found.site.kind != "layer"]
    covered = in_branches(graph, sites)
    # a module has its sites for all its calls, whichever one they were found in
    modules = {(_path(graph, i), graph.values[i].op) for i in covered}
    convolutions = {site.output.module for site in findings.convolutions}
    layers = {found.place.path for found in sites if found.place.listed}
    stacks = {found.place.stack for found in sites if found.place.listed}
    attentions = _attentions(graph)
    feed_forwards = _feed_forwards(graph, covered, {found.total for found in sites}) - attentions
    found = []
    for i in sorted(attentions | feed_forwards):
        path = _path(graph, i)
        children = [child for stack, _, child in list_children_of(path) if i in attentions or stack in stacks]
        block = children[-1] if children else ""
        if i in feed_forwards and any(layer.startswith(f"{block}.") for layer in layers):
            block = ""  # next to the layers of a stage
        is_covered = i in covered or (path, graph.values[i].op) in modules or path in convolutions
        kind: Literal["attention", "feed_forward"] = "attention" if i in attentions else "feed_forward"
        found.append(Operation(kind, i, path, block, is_covered, _leaves(graph, i, block)))
    return found


def _path(graph: Graph, value: int) -> str:
    return graph.calls[graph.values[value].calls[-1]].path


def in_branches(graph: Graph, sites: Collection[FoundSite]) -> set[int]:
    """The values computed between the streams and the sums of sites, inside their blocks or from their streams."""
    found: set[int] = set()
    for site in sites:
        before = graph.ancestors[site.stream] | 1 << site.stream
        waiting, seen = [site.total], set[int]()
        while waiting:
            i = waiting.pop()
            value = graph.values[i]
            inside = site.place.call in value.calls or graph.depends(i, site.stream)
            if i in seen or before >> i & 1 or not inside or not value.calls:
                continue
            seen.add(i)
            waiting += value.inputs
        found |= seen
    return found


def _attentions(graph: Graph) -> set[int]:
    values = graph.values
    softmaxes: dict[int, tuple[int, ...]] = {}
    found = set()
    for value in values:
        i, active = value.index, graph.active_inputs(value.index)
        if not graph.active[i] or not value.calls:
            continue
        if value.op in ops.FUSED_ATTENTION or is_attention_kernel(graph, i):
            found.add(i)
        elif is_softmax(graph, i):
            softmaxes[i] = value.calls
        elif value.op in ops.PRODUCTS and len(active) > 1:
            # weights may be masked or mixed before they weigh, in the call that made them
            found |= {s for s, calls in softmaxes.items() if calls == value.calls and graph.depends(i, s)}
            found |= softmaxes.keys() & {graph.source(j) for j in active}
        elif value.op == "mul" and len(active) == 2 and any(_is_sampled(graph, j) for j in active):
            found |= softmaxes.keys() & {graph.source(j) for j in active}
    return found


def _is_sampled(graph: Graph, index: int) -> bool:
    """Whether a value was read at points of a map, as deformable attention does, and only joined since."""
    waiting, seen = [index], set[int]()
    while waiting:
        i = waiting.pop()
        if graph.values[i].op in ops.SAMPLING:
            return True
        if i not in seen and (graph.values[i].op in ops.JOINS or graph.previous(i) is not None):
            waiting += graph.active_inputs(i)
        seen.add(i)
    return False


def _feed_forwards(graph: Graph, covered: Collection[int], totals: Collection[int]) -> set[int]:
    """Maps at each position of a non-linearity of another such map, both in branches or both in none."""
    straight: dict[int, set[int]] = {}  # for each value the maps that it comes from with no work in between
    bent: dict[int, set[int]] = {}  # and those with a non-linearity in between
    found = set()
    for value in graph.values:
        i, active = value.index, graph.active_inputs(value.index)
        if not graph.active[i] or not value.calls or i in totals:
            continue
        straight[i] = set().union(*(straight.get(j, ()) for j in active))
        bent[i] = set().union(*(bent.get(j, ()) for j in active))
        if _is_positionwise(graph, i):
            if any((j in covered) == (i in covered) for j in bent[i]) and not _is_only_a_factor(graph, i):
                found.add(i)
            straight[i], bent[i] = {i}, set()
        elif value.op in _MIXING or graph.is_map(i):
            straight[i], bent[i] = set(), set()
        elif ops.is_activation(value.op) and not any(ops.is_norm(graph.calls[c].module) for c in value.calls):
            straight[i], bent[i] = set(), straight[i] | bent[i]
    return found


def _is_only_a_factor(graph: Graph, index: int) -> bool:
    """Whether a value is only a factor of larger ones and added to none, as in squeeze-and-excitation."""
    waiting, factors = [index], 0
    while waiting:
        i = waiting.pop()
        for j in graph.users[i]:
            user = graph.values[j]
            if user.op == "mul" and user.size > graph.values[i].size:
                factors += 1
            elif ops.is_activation(user.op):
                waiting.append(j)
            else:
                return False
    return factors > 0


def _is_positionwise(graph: Graph, index: int) -> bool:
    is_wide = graph.values[index].op in ops.CONVOLUTIONS and kernel_size(graph, index) > 1
    return graph.is_map(index) and not is_wide


def _leaves(graph: Graph, index: int, block: str) -> bool:
    calls = [graph.calls[c] for c in graph.values[index].calls if graph.calls[c].path == block]
    return not calls or any(
        graph.depends(output.value, index)
        for call in calls
        for output in call.outputs
        if graph.active[output.value] and keeps_shape(graph, call)
    )


def keeps_shape(graph: Graph, call: Call) -> bool:
    """Whether a call returns an activation of the shape of one that it took."""
    taken = {graph.values[p.value].shape for p in call.inputs if graph.active[p.value]}
    return any(graph.values[p.value].shape in taken for p in call.outputs if graph.active[p.value])


def unreached(model: torch.nn.Module, findings: Sequence[Findings], left_out: Sequence[str]) -> list[str]:
    """The dotted paths of the layers with a class named attention that no run called; of the list where it has no others.

    ``left_out`` are parts of the model that are not looked at.
    """
    ran = {call.path for one in findings for call in one.graph.calls}
    ran |= {path.rpartition(".")[0] for path in ran}  # blocks that are never called themselves, if their parts are
    missed: dict[str, list[str]] = {}
    for path, module in model.named_modules():
        known = [*left_out, *(other for layers in missed.values() for other in layers)]
        if not is_list_child(path) or path in ran or any(f"{path}.".startswith(f"{outer}.") for outer in known):
            continue
        if any(name.startswith(f"{path}.") for name in ran):
            continue
        if any("attention" in type(part).__name__.lower() for part in module.modules()):
            missed.setdefault(path.rpartition(".")[0], []).append(path)
    for stack, layers in missed.items():
        if len(layers) == len(list(model.get_submodule(stack).children())):
            missed[stack] = [stack]
    return [path for layers in missed.values() for path in layers]
