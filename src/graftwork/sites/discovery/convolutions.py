"""Sites of kind ``convolution``: at the output of every two-dimensional convolution whose windows overlap.

An adapter there corrects the convolution, whatever residual sums the network has; so these sites exist in a network without
any. There is none at a pointwise or a grouped convolution, nor at one whose windows do not overlap (patches, poolings made of
weights), nor at the first one where it is the only one: that is how transformers take images in.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import nn

from graftwork.sites.discovery.axes import Axes
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.layers import Place, list_children_of
from graftwork.sites.discovery.values import Call
from graftwork.sites.site import Site, Tap


@dataclasses.dataclass(frozen=True)
class _Found:
    """One call of a convolution: the values that go in and come out, and whether no other convolution is before it."""

    call: Call
    convolution: nn.Conv2d
    taken: int
    returned: int
    first: bool


def convolution_sites(graph: Graph, axes: Axes, places: Sequence[Place]) -> list[Site]:
    """The convolutions of a run, in order of execution.

    One inside a block that has a residual sum belongs to that block's layer. Outside of them the child of the outermost
    list around it is its layer, and where there is no list each convolution is one, numbered inside its parent.
    ``places`` are the blocks with a residual sum.
    """
    found = _overlapping(graph)
    if all(one.first for one in found):
        return []
    homes = [_home(graph, one.call, places) for one in found]
    known = {place.stack for place in places}  # their layers have numbers; other layers are counted as they run
    in_order: dict[str, dict[tuple[str, int], int]] = collections.defaultdict(dict)
    seen: collections.Counter[tuple[str, int]] = collections.Counter()
    sites = []
    for one, (stack, layer, block, nth) in zip(found, homes, strict=True):
        counted = in_order[stack].setdefault((block, nth), len(in_order[stack]))
        layer = layer if stack in known and layer >= 0 else counted
        sites.append(_site(graph, axes, one, stack, layer, block, seen[stack, layer]))
        seen[stack, layer] += 1
    return sites


def is_site(module: nn.Module) -> bool:
    """Whether a module is a convolution that is a site: over images, dense, its windows overlapping."""
    if not isinstance(module, nn.Conv2d) or module.groups != 1:
        return False
    return any(size > step for size, step in zip(module.kernel_size, module.stride, strict=True))


def facts_of(convolution: nn.Conv2d) -> dict[str, Any]:
    """The facts of a convolution for its site's ``extra``, sizes as ``[height, width]``.

    ``margins`` are ``[left, right, top, bottom]`` by which the input has to be padded (where negative: cropped) so that its
    positions are the middles of the windows: a pointwise convolution of the same stride then sees the same positions.
    """
    margins: list[int] = []
    sides = convolution._reversed_padding_repeated_twice  # left, right, top, bottom
    for n, (size, spread) in enumerate(
        zip(reversed(convolution.kernel_size), reversed(convolution.dilation), strict=True)
    ):
        before = spread * ((size - 1) // 2)
        margins += [sides[2 * n] - before, sides[2 * n + 1] - (spread * (size - 1) - before)]
    return {
        "channels": 1,
        "in_channels": convolution.in_channels,
        "kernel": list(convolution.kernel_size),
        "stride": list(convolution.stride),
        "margins": margins,
    }


def _overlapping(graph: Graph) -> list[_Found]:
    found: list[_Found] = []
    before: list[int] = []  # what convolutions of any form returned so far
    for call in graph.calls:
        if not isinstance(call.module, nn.Conv2d):
            continue
        taken = next((p.value for p in call.inputs if p.reachable and graph.active[p.value]), None)
        returned = next((p.value for p in call.outputs if p.reachable and p.slot is None), None)
        if taken is None or returned is None:
            continue
        again = any(f.call.path == call.path and not graph.depends(taken, f.returned) for f in found)
        if is_site(call.module) and not again:  # one set of adapters for all calls, unless one is fed by another
            is_first = not any(graph.depends(taken, v) for v in before)
            found.append(_Found(call, call.module, taken, returned, is_first))
        before.append(returned)
    return found


def _home(graph: Graph, call: Call, places: Sequence[Place]) -> tuple[str, int, str, int]:
    """Stack, layer, block, and which call of the block; layer -1 where it has to be counted."""
    around = [place for place in places if place.holds(graph, call.index)]
    if around:
        place = max(around, key=lambda p: len(p.path))
        return place.stack, place.layer, place.path, 0
    lists = list_children_of(call.path)
    if lists:
        return *lists[0], 0
    parent = call.path.rpartition(".")[0]
    return parent, -1, parent, call.index


def _site(graph: Graph, axes: Axes, one: _Found, stack: str, layer: int, block: str, index: int) -> Site:
    facts = facts_of(one.convolution)
    if one.first:
        facts["first"] = True
    if not _met(facts, graph.values[one.taken].shape, graph.values[one.returned].shape):
        del facts["margins"]
    return Site(
        stack=stack,
        layer=layer,
        kind="convolution",
        block=block,
        output=Tap(one.call.path, "output", None, one.call.nth),
        width=one.convolution.out_channels,
        input=one.call.input_tap(one.taken),
        index=index,
        extra=facts,
        rows=axes.rows(one.returned),
    )


def _met(facts: dict[str, Any], taken: tuple[int, ...], returned: tuple[int, ...]) -> bool:
    """Whether the margins give the output's size; they do not where the padding is computed in the call."""
    left, right, top, bottom = facts["margins"]
    padded = taken[-2] + top + bottom, taken[-1] + left + right
    return returned[-2:] == tuple((size - 1) // step + 1 for size, step in zip(padded, facts["stride"], strict=True))
