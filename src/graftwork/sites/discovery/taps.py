"""Where a hook can see the tensors of a site: the module calls that a value passes."""

from __future__ import annotations

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
        scale: The model's own factor behind it: a number, the path of a parameter, or `None` for 1.
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
            call = graph.calls[c]
            for p in call.inputs:
                if p.value == i and p.reachable and p.slot is not None:
                    found.append(Occurrence(call.entered, c, Tap(call.path, "input", p.slot, call.nth)))
                    break
        for c in set(graph.values[i].returned_by):
            call = graph.calls[c]
            for p in call.outputs:
                if p.value == i and p.reachable:
                    found.append(Occurrence(call.left, c, Tap(call.path, "output", p.slot, call.nth)))
                    break
    return sorted(found, key=lambda occurrence: (occurrence.tick, occurrence.tap.module))


def inside(graph: Graph, found: list[Occurrence], place: Place) -> list[Occurrence]:
    """The occurrences strictly inside a block: gradient checkpointing may re-run it without its own edges."""
    return [occurrence for occurrence in found if place.holds(graph, occurrence.call)]


def branch_output(axes: Axes, branch: Branch) -> BranchOutput | None:
    """The outermost module call that returns the branch, in the layout of the sum wherever some call does.

    Where no call returns it, the last one that all of it came through unchanged but for its layout; else the call that
    returns the sum itself, where it is made inside a part of the block.
    """
    graph = axes.graph
    target = graph.values[branch.sum.value]
    path = graph.path(branch.value)
    path = path[: path.index(branch.sum.origin)] if branch.sum.origin in path else path
    found = _outermost(axes, branch, list(path))
    if found is not None:
        occurrence, value = found
        scale, computed = _factors(graph, branch, value)
        extra = {"factor": "computed"} if computed else {}
        if not axes.same_shape(value, target.index):
            extra["layout"] = "differs"
        return BranchOutput(occurrence, value, scale, extra)
    found = _outermost(axes, branch, _gateways(graph, branch))
    if found is not None:
        return BranchOutput(*found, None, {"layout": "differs"})
    adders = [graph.calls[c] for c in target.returned_by if is_below_list_child(graph, c)]
    for call in sorted(adders, key=lambda call: (call.depth, -call.index)):
        slot = next((p.slot for p in call.outputs if p.value == target.index and p.reachable), _UNREACHABLE)
        if slot is not _UNREACHABLE:
            tap = Tap(call.path, "output", slot, call.nth)  # type: ignore[arg-type]
            return BranchOutput(Occurrence(call.left, call.index, tap), target.index, None, {"returns": "sum"})
    return None


_UNREACHABLE = object()


def _outermost(axes: Axes, branch: Branch, values: list[int]) -> tuple[Occurrence, int] | None:
    """Of the calls that returned one of the values (latest first) the outermost; the last of several as far out."""
    graph = axes.graph
    target = graph.values[branch.sum.value]
    candidates: list[tuple[bool, int, int, Occurrence, int]] = []
    for i in values:
        for c in reversed(graph.values[i].returned_by):
            call = graph.calls[c]
            slot = next((p.slot for p in call.outputs if p.value == i and p.reachable), _UNREACHABLE)
            if c not in target.calls and slot is not _UNREACHABLE:
                differs = not axes.same_shape(i, target.index)
                tap = Tap(call.path, "output", slot, call.nth)  # type: ignore[arg-type]
                candidates.append((differs, call.depth, len(candidates), Occurrence(call.left, c, tap), i))
    return min(candidates, key=lambda candidate: candidate[:3])[3:] if candidates else None


def _gateways(graph: Graph, branch: Branch) -> list[int]:
    """What all of a branch came through, latest first, and was only re-laid out, joined or averaged since."""
    body = graph.between(branch.sum.origin, branch.value)
    gateways = []
    for i in reversed(body):
        if i != branch.value and _all_through(graph, branch.sum.origin, i, branch.value):
            gateways.append(i)
        if graph.values[i].op not in ops.TRIVIAL and graph.values[i].op not in ("mean", "sum"):
            break
    return gateways


def is_below_list_child(graph: Graph, call: int) -> bool:
    """Whether a call happened inside a child of a list, and is not that child."""
    parent = graph.calls[call].parent
    while parent is not None:
        if is_list_child(graph.calls[parent].path):
            return True
        parent = graph.calls[parent].parent
    return False


def _factors(graph: Graph, branch: Branch, tapped: int) -> tuple[float | str | None, bool]:
    """The model's own factors between the tapped value and the sum: one number or parameter, and whether others are."""
    number = 1.0
    names: list[str] = []
    computed = False
    total = graph.values[branch.sum.value]
    if branch.value == branch.sum.branch and len(total.inputs) > 1 and total.inputs[1] == branch.value:
        number *= -total.alpha if total.op == "sub" else total.alpha
    if total.op == "addcmul":
        names, computed = _named_factors(graph, [j for j in total.inputs[1:] if j != branch.sum.branch])
    computed |= total.op == "lerp"
    for i in graph.path(branch.value):
        if i == tapped:
            break
        value = graph.values[i]
        if value.op == "neg":
            number = -number
        if value.op not in ops.SCALING:
            continue
        for constant in value.constants:
            number = number * constant if value.op == "mul" else number / constant
        carried = graph.previous(i)
        others = [j for j in value.inputs if j != carried]
        more, unknown = _named_factors(graph, others)
        names += more
        computed |= unknown or (bool(more) and value.op == "truediv")
    if names and (len(names) > 1 or not math.isclose(number, 1.0)):
        computed = True
    if computed:
        return None, True
    return (names[0], False) if names else (None if math.isclose(number, 1.0) else number, False)


def _named_factors(graph: Graph, values: list[int]) -> tuple[list[str], bool]:
    """The parameters that some values are, through views; and whether one of them is anything else."""
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

    Args:
        graph: The graph of the run.
        streams: The stream, and what may stand for it, best first.
        place: Where the branch belongs.
        output: Where the branch's output leaves.
    """
    for stream in streams:
        everywhere = [o for o in occurrences(graph, graph.same_content(stream)) if o.tick < output.tick]
        strictly = inside(graph, everywhere, place)
        around = [o for o in strictly if not graph.record.is_below(o.call, output.call)]
        at_edge = [o for o in everywhere if place.whole and o.call == place.call and o.tap.end == "input"]
        for found in (around, strictly, at_edge, everywhere):
            if found:
                return found[-1].tap
    return None


def input_tap(graph: Graph, branch: Branch, place: Place, residual: Tap | None) -> Tap | None:
    """Where the branch's input can be read: behind the norm that all of the branch passes, else the stream."""
    for i in graph.between(branch.sum.origin, branch.value):
        for c in graph.values[i].returned_by:
            call = graph.calls[c]
            takes_stream = any(_is_on_stream(graph, branch, p.value) for p in call.inputs)
            if not takes_stream or not ops.is_norm(call.module) or not place.holds(graph, c):
                continue
            if _all_through(graph, branch.sum.origin, i, branch.value):
                found = [o for o in occurrences(graph, [i]) if o.call == c and o.tap.end == "output"]
                return found[0].tap if found else None
        is_bare_norm = graph.values[i].op in ops.NORMS and not _within_norm(graph, i, place)
        if is_bare_norm and _is_on_stream(graph, branch, graph.active_inputs(i)[0]):
            if not _all_through(graph, branch.sum.origin, i, branch.value):
                continue
            found = inside(graph, occurrences(graph, [i]), place)
            return found[0].tap if found else None
    return residual


def _within_norm(graph: Graph, value: int, place: Place) -> bool:
    within = graph.values[value].calls[graph.calls[place.call].depth + 1 :]
    return any(ops.is_norm(graph.calls[c].module) for c in within)


def _is_on_stream(graph: Graph, branch: Branch, value: int) -> bool:
    return branch.sum.origin in graph.path(value)


def _all_through(graph: Graph, start: int, gate: int, end: int) -> bool:
    """Whether every way from `start` to `end` passes `gate`."""
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
            if any(c in norms for c in graph.values[user].calls):
                continue
            if graph.previous(user) == i and graph.active[user]:
                waiting.append(user)
            elif graph.active[user]:
                return None
    return graph.calls[norms.pop()] if len(norms) == 1 else None
