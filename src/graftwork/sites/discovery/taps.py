"""Where a hook can see the tensors of a site: the module calls that take or return a value."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from graftwork.sites.discovery import ops
from graftwork.sites.discovery.axes import Axes
from graftwork.sites.discovery.branch import Branch
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.layers import Place
from graftwork.sites.discovery.values import Call, is_list_child
from graftwork.sites.site import Tap


class Occurrence(NamedTuple):
    """A value at the edge of a module call, at a tick of the record's clock."""

    tick: int
    call: int
    tap: Tap


class BranchOutput(NamedTuple):
    """The module call that returns a branch, and what the model still does to it before the sum.

    Attributes:
        occurrence: Where the branch leaves the call.
        value: The value there.
        scale: The model's own factor after it: a number, the path of a parameter, or `None` for 1.
        extra: What is unusual: ``layout`` (``differs``), ``factor`` (``computed``), ``returns`` (``sum``).
    """

    occurrence: Occurrence
    value: int
    scale: float | str | None
    extra: dict[str, str]


def occurrences(graph: Graph, values: list[int]) -> list[Occurrence]:
    """Every place where a hook can see one of the given values, in order of time."""
    found = []
    for i in values:
        for c in set(graph.values[i].taken_by):
            if tap := graph.calls[c].input_tap(i):
                found.append(Occurrence(graph.calls[c].entered, c, tap))
        for c in set(graph.values[i].returned_by):
            if tap := graph.calls[c].output_tap(i):
                found.append(Occurrence(graph.calls[c].left, c, tap))
    return sorted(found, key=lambda occurrence: (occurrence.tick, occurrence.tap.module))


def inside(graph: Graph, found: list[Occurrence], place: Place) -> list[Occurrence]:
    """The occurrences strictly inside a block: gradient checkpointing may re-run it without its own edges."""
    return [occurrence for occurrence in found if place.holds(graph, occurrence.call)]


def branch_output(axes: Axes, branch: Branch) -> BranchOutput | None:
    """The outermost module call that returns the branch, in the layout of the sum wherever some call does.

    Where no call returns it, the last one that all of it passes and after which only its layout changes; else the call
    that returns the sum itself, where it is made inside a part of the block.
    """
    graph = axes.graph
    target = graph.values[branch.sum.value]
    path = itertools.takewhile(lambda i: i != branch.sum.origin, graph.path(branch.value))
    found = _outermost(axes, branch, list(path))
    if found is not None:
        occurrence, value = found
        scale, computed = _factors(graph, branch, value)
        extra = {"factor": "computed"} if computed else {}
        if not axes.shapes.same(value, target.index):
            extra["layout"] = "differs"
        return BranchOutput(occurrence, value, scale, extra)
    found = _outermost(axes, branch, _gateways(graph, branch))
    if found is not None:
        return BranchOutput(*found, None, {"layout": "differs"})
    # inside a child of a list, and not that child
    inner = [c for c in target.returned_by if any(is_list_child(graph.calls[p].path) for p in graph.record.around(c))]
    for call in sorted((graph.calls[c] for c in inner), key=lambda call: (call.depth, -call.index)):
        if tap := call.output_tap(target.index):
            return BranchOutput(Occurrence(call.left, call.index, tap), target.index, None, {"returns": "sum"})
    return None


def _outermost(axes: Axes, branch: Branch, values: list[int]) -> tuple[Occurrence, int] | None:
    """The outermost call that returned one of the values (latest first), by preference in the layout of the sum."""
    graph = axes.graph
    target = graph.values[branch.sum.value]
    candidates = []
    for i in values:
        for c in reversed(graph.values[i].returned_by):
            call = graph.calls[c]
            if c not in target.calls and (tap := call.output_tap(i)):
                differs = not axes.shapes.same(i, target.index)
                candidates.append((differs, call.depth, Occurrence(call.left, c, tap), i))
    return min(candidates, key=lambda candidate: candidate[:2])[2:] if candidates else None


def _gateways(graph: Graph, branch: Branch) -> list[int]:
    """The values that all of a branch passes, latest first, and after which it is only re-laid out, joined or averaged."""
    gateways = []
    for i in reversed(graph.between(branch.sum.origin, branch.value)):
        if i != branch.value and _all_through(graph, branch.sum.origin, i, branch.value):
            gateways.append(i)
        if graph.values[i].op not in ops.TRIVIAL and graph.values[i].op not in ("mean", "sum"):
            break
    return gateways


def _factors(graph: Graph, branch: Branch, tapped: int) -> tuple[float | str | None, bool]:
    """The model's own factor between the tapped value and the sum (a number or a parameter), and whether it is computed."""
    number = 1.0
    names: list[str] = []
    computed = False
    total = graph.values[branch.sum.value]
    if branch.value == branch.sum.branch and len(total.inputs) > 1 and total.inputs[1] == branch.value:
        number *= -total.alpha if total.op == "sub" else total.alpha
    if total.op == "addcmul":
        names, computed = _named_factors(graph, [j for j in total.inputs[1:] if j != branch.sum.branch])
    computed |= total.op == "lerp"
    for i in itertools.takewhile(lambda i: i != tapped, graph.path(branch.value)):
        value = graph.values[i]
        if value.op == "neg":
            number = -number
        if value.op not in ops.SCALING:
            continue
        for constant in value.constants:
            number = number * constant if value.op == "mul" else number / constant
        carried = graph.previous(i)
        more, unknown = _named_factors(graph, [j for j in value.inputs if j != carried])
        names += more
        computed |= unknown or (bool(more) and value.op == "truediv")
    is_one = math.isclose(number, 1.0)
    if computed or len(names) > 1 or (names and not is_one):
        return None, True
    return (names[0] if names else None if is_one else number), False


def _named_factors(graph: Graph, values: list[int]) -> tuple[list[str], bool]:
    """The names of the parameters that some values are views of; and whether one of the values is anything else."""
    names: list[str] = []
    for i in values:
        value = graph.values[i]
        while value.name is None and len(value.inputs) == 1 and value.op in ops.SAME_CONTENT:
            value = graph.values[value.inputs[0]]
        if value.op != "param" or value.name is None:
            return names, True
        names.append(value.name)
    return names, False


def residual_tap(graph: Graph, streams: list[int], place: Place, output: Occurrence) -> Tap | None:
    """Where the stream can be read before the branch's output leaves: as late as possible, inside the block.

    Not inside the module that returns the output, if it passes elsewhere too: that may run on a part of the positions.
    ``streams`` are the stream and values that can be read instead, best first.
    """
    for stream in streams:
        everywhere = [o for o in occurrences(graph, graph.same_content(stream)) if o.tick < output.tick]
        strictly = inside(graph, everywhere, place)
        around = [o for o in strictly if not graph.record.is_below(o.call, output.call)]
        found = around or strictly or at_edge(everywhere, place) or everywhere
        if found:
            return found[-1].tap
    return None


def entering_tap(graph: Graph, entering: int, place: Place, before: int) -> Tap | None:
    """Where the stream that enters the layer is first seen inside the block before a tick, else at the block's edge."""
    everywhere = [o for o in occurrences(graph, graph.same_content(entering)) if o.tick < before]
    found = inside(graph, everywhere, place) or at_edge(everywhere, place) or everywhere[-1:]
    return found[0].tap if found else None


def at_edge(found: list[Occurrence], place: Place) -> list[Occurrence]:
    """The occurrences at the input of the block's own call."""
    return [o for o in found if place.whole and o.call == place.call and o.tap.end == "input"]


def input_tap(graph: Graph, branch: Branch, place: Place, residual: Tap | None) -> Tap | None:
    """Where the branch's input can be read: after the norm that all of the branch passes, else the stream."""
    origin = branch.sum.origin

    def takes_stream(value: int) -> bool:
        return origin in graph.path(value)

    for i in graph.between(origin, branch.value):
        for c in graph.values[i].returned_by:
            call = graph.calls[c]
            if not ops.is_norm(call.module) or not place.holds(graph, c):
                continue
            if any(takes_stream(p.value) for p in call.inputs) and _all_through(graph, origin, i, branch.value):
                return call.output_tap(i)
        is_bare_norm = graph.values[i].op in ops.NORMS and not _within_norm(graph, i, place)
        if is_bare_norm and takes_stream(graph.active_inputs(i)[0]) and _all_through(graph, origin, i, branch.value):
            found = inside(graph, occurrences(graph, [i]), place)
            return found[0].tap if found else None
    return residual


def _within_norm(graph: Graph, value: int, place: Place) -> bool:
    within = graph.values[value].calls[graph.calls[place.call].depth + 1 :]
    return any(ops.is_norm(graph.calls[c].module) for c in within)


def _all_through(graph: Graph, start: int, gate: int, end: int) -> bool:
    """Whether every path from `start` to `end` passes `gate`."""
    reach = graph.ancestors[end] | 1 << end
    around = {start}
    for i in range(start + 1, end + 1):
        if i != gate and reach >> i & 1 and any(j in around for j in graph.values[i].inputs):
            around.add(i)
    return end not in around


def post_norm(graph: Graph, total: int, place: Place) -> Call | None:
    """The norm inside the block that takes the sum, where nothing else does."""
    norms: set[int] = set()
    seen: set[int] = set()
    waiting = [total]
    while waiting:
        i = waiting.pop()
        if i in seen:
            continue
        seen.add(i)
        for c in graph.values[i].taken_by:
            if ops.is_norm(graph.calls[c].module) and place.holds(graph, c):
                norms.add(c)
        for user in graph.users[i]:
            if not graph.active[user] or any(c in norms for c in graph.values[user].calls):
                continue
            if graph.previous(user) != i:
                return None
            waiting.append(user)
    return graph.calls[norms.pop()] if len(norms) == 1 else None
