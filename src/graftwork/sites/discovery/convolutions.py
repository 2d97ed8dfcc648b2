"""Sites of kind ``convolution``: at the output of every two-dimensional convolution that looks around itself.

An adapter beside a convolution corrects the convolution, whatever the network adds up; so these sites are there in a
network without a single residual sum too. Pointwise and grouped ones are no such sites, nor are those whose windows do
not overlap (patches, poolings made of weights), and nor is a lone first one: that is how transformers take images in.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from torch import nn

from graftwork.sites.discovery.axes import Axes
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.layers import Place, list_children_of
from graftwork.sites.discovery.values import Call, Passing
from graftwork.sites.site import Site, Tap

KIND = "convolution"


@dataclasses.dataclass(frozen=True)
class _Found:
    """One call of a convolution: what goes in and comes out, and whether no other lies before it."""

    call: Call
    taken: Passing
    returned: Passing
    first: bool


def convolution_sites(graph: Graph, axes: Axes, places: Sequence[Place]) -> list[Site]:
    """The convolutions of a run, in order of execution.

    One inside a block that has a residual sum belongs to that block's layer. Outside of them the child of the outermost
    list around it is its layer, and where there is no list each convolution is one, numbered inside its parent.

    Args:
        graph: The graph of the run.
        axes: What the dimensions of its values hold.
        places: The blocks with a residual sum.
    """
    found = _overlapping(graph)
    if all(one.first for one in found):
        return []
    known = {place.stack for place in places}
    homes = [_home(graph, one.call, places) for one in found]
    layers = _layers(homes, known)
    seen: collections.Counter[tuple[str, int]] = collections.Counter()
    sites = []
    for one, (stack, _, block, _), layer in zip(found, homes, layers, strict=True):
        sites.append(_site(graph, axes, one, stack, layer, block, seen[stack, layer]))
        seen[stack, layer] += 1
    return sites


def is_site(module: nn.Module) -> bool:
    """Whether a module is a convolution that an adapter can stand beside: over images, dense, its windows overlapping."""
    if not isinstance(module, nn.Conv2d) or module.groups != 1:
        return False
    return any(size > step for size, step in zip(module.kernel_size, module.stride, strict=True))


def facts_of(convolution: nn.Conv2d) -> dict[str, Any]:
    """What a site says of its convolution, sizes as ``[height, width]``.

    ``margins`` are ``[left, right, top, bottom]`` by which the input has to be padded (where negative: cropped) for its
    positions to be the middles of the windows: where the convolution and a pointwise one of its stride see the same.
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
        taken = next((p for p in call.inputs if p.reachable and graph.active[p.value]), None)
        returned = next((p for p in call.outputs if p.reachable and p.slot is None), None)
        if taken is None or returned is None:
            continue
        again = any(f.call.path == call.path and not graph.depends(taken.value, f.returned.value) for f in found)
        if is_site(call.module) and not again:  # one set of adapters for all calls, unless one is fed by another
            found.append(_Found(call, taken, returned, not any(graph.depends(taken.value, v) for v in before)))
        before.append(returned.value)
    return found


def _home(graph: Graph, call: Call, places: Sequence[Place]) -> tuple[str, int, str, int]:
    """Stack, layer, block, and which call of the block; layer -1 where it has to be counted."""
    around = [place for place in places if place.holds(graph, call.index)]
    if around:
        place = max(around, key=lambda p: len(p.path))
        return place.stack, place.layer, place.path, 0
    lists = list_children_of(call.path)
    if lists:
        stack, layer, path = lists[0]
        return stack, layer, path, 0
    parent = call.path.rpartition(".")[0]
    return parent, -1, parent, call.index


def _layers(homes: Sequence[tuple[str, int, str, int]], known: Collection[str]) -> list[int]:
    """The layers' numbers: as they are in the stacks of residual blocks, else in order of execution."""
    in_order: dict[str, dict[tuple[str, int], int]] = collections.defaultdict(dict)
    for stack, _, block, nth in homes:
        in_order[stack].setdefault((block, nth), len(in_order[stack]))
    return [
        layer if stack in known and layer >= 0 else in_order[stack][block, nth] for stack, layer, block, nth in homes
    ]


def _site(graph: Graph, axes: Axes, one: _Found, stack: str, layer: int, block: str, index: int) -> Site:
    call, convolution = one.call, one.call.module
    assert isinstance(convolution, nn.Conv2d)
    assert one.taken.slot is not None
    facts = facts_of(convolution)
    if one.first:
        facts["first"] = True
    shapes = graph.values[one.taken.value].shape, graph.values[one.returned.value].shape
    if not _met(facts, *shapes):
        del facts["margins"]
    return Site(
        stack=stack,
        layer=layer,
        kind="convolution",
        block=block,
        output=Tap(call.path, "output", None, call.nth),
        width=convolution.out_channels,
        input=Tap(call.path, "input", one.taken.slot, call.nth),
        index=index,
        extra=facts,
        rows=axes.rows(one.returned.value),
    )


def _met(facts: dict[str, Any], taken: tuple[int, ...], returned: tuple[int, ...]) -> bool:
    """Whether the margins give the output's size; they do not where the padding is computed in the call."""
    left, right, top, bottom = facts["margins"]
    padded = taken[-2] + top + bottom, taken[-1] + left + right
    return returned[-2:] == tuple((size - 1) // step + 1 for size, step in zip(padded, facts["stride"], strict=True))
