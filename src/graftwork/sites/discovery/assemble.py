"""From a record to sites: the branches with their taps, and one site for each whole block."""

from __future__ import annotations

import collections
import dataclasses

from graftwork.sites.discovery import taps
from graftwork.sites.discovery.axes import Axes
from graftwork.sites.discovery.branch import ATTENTIONS, Branch, find_branches, settle_kinds
from graftwork.sites.discovery.convolutions import convolution_sites
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.layers import Place, find_places
from graftwork.sites.discovery.projections import projection_sites
from graftwork.sites.discovery.sums import ResidualSums
from graftwork.sites.site import Site, Tap

_TAPS = ("output", "residual", "input", "layer_input")


@dataclasses.dataclass(slots=True)
class FoundSite:
    """A site with what it was made from.

    Attributes:
        site: The site.
        place: Where it belongs.
        total: The value that its output ends in: the residual sum, or the stream after the block.
        stream: The value of the stream before it.
        entering: The value of the stream as it enters the layer.
    """

    site: Site
    place: Place
    total: int
    stream: int
    entering: int


@dataclasses.dataclass(slots=True)
class Findings:
    """What one run showed.

    Attributes:
        graph: The graph of the run.
        sites: The sites found, in order of execution.
        without_output: Branches that no module call returns, with their places.
        convolutions: The sites at convolutions, which need no residual sums.
        projections: The sites at linear modules inside the layers.
        axes: What the dimensions of its values hold.
    """

    graph: Graph
    sites: list[FoundSite]
    without_output: list[tuple[Branch, Place]]
    convolutions: list[Site]
    projections: list[Site]
    axes: Axes


def assemble(graph: Graph, axes: Axes | None = None) -> Findings:
    """The sites of a graph: branches, then the block itself, layer by layer."""
    axes = axes if axes is not None else Axes(graph)
    sums = ResidualSums(graph)
    branches = find_branches(sums)
    outputs = [taps.branch_output(axes, branch) for branch in branches]
    places = find_places(sums, branches, [o.occurrence.tap.module if o else None for o in outputs])
    has_lists = any(place.listed for place in places)
    attending = {place.stack for branch, place in zip(branches, places, strict=True) if branch.kind in ATTENTIONS}
    layers: dict[tuple[str, int], list[tuple[Branch, taps.BranchOutput, Place]]] = collections.defaultdict(list)
    without_output = []
    for branch, output, place in zip(branches, outputs, places, strict=True):
        if has_lists and not place.listed and branch.kind not in ATTENTIONS:
            continue  # positions by convolution before the layers, a head after them, a loop around them
        if output is not None:
            layers[place.stack, place.layer].append((branch, output, place))
        elif place.stack in attending or not attending:  # else it is no stack of transformer layers
            without_output.append((branch, place))
    found: list[FoundSite] = []
    for in_layer in layers.values():
        in_layer.sort(key=lambda entry: (entry[0].sum.value, entry[1].occurrence.tick))
        settle_kinds([branch for branch, _, _ in in_layer])
        entering: dict[int, int] = {}
        for branch, _, place in in_layer:
            entering.setdefault(place.call, branch.sum.stream)
        sites = _once(sums, [_branch_site(sums, axes, *entry, entering[entry[2].call]) for entry in in_layer])
        found += sites
        block = _block_site(sums, axes, sites)
        if block is not None:
            found.append(block)
    inside = [one.place for one in found]
    convolutions = convolution_sites(graph, axes, inside)
    projections = [_with_layer_input(site, found) for site in projection_sites(graph, axes, inside)]
    return Findings(graph, found, without_output, convolutions, projections, axes)


def _with_layer_input(projection: Site, found: list[FoundSite]) -> Site:
    """A projection that knows where the stream enters its layer, where another site of the layer does."""
    layer = [one.site for one in found if (one.site.stack, one.site.layer) == (projection.stack, projection.layer)]
    site = next((site for site in layer if site.layer_input is not None), None)
    if site is None:
        return projection
    extra = {**projection.extra, "layer_width": site.width}
    return dataclasses.replace(projection, layer_input=site.layer_input, extra=extra)


def _branch_site(
    sums: ResidualSums, axes: Axes, branch: Branch, output: taps.BranchOutput, place: Place, entering: int
) -> FoundSite:
    graph = sums.graph
    norm = taps.post_norm(graph, branch.sum.value, place)
    if norm is not None and not place.whole and str(place.layer) not in norm.path.split("."):
        norm = None  # the block is the whole model here, and that norm closes it
    residual = taps.residual_tap(graph, sums.same_streams(branch.sum), place, output.occurrence)
    layout = axes.layout(f"{place.path or '(root)'} ({branch.kind})", output.value, branch.sum.value, branch.sum.stream)
    projected = {"stream": "projected"} if branch.sum.projected else {}
    site = Site(
        stack=place.stack,
        layer=place.layer,
        kind=branch.kind,
        block=place.path,
        output=output.occurrence.tap,
        width=layout.width,
        residual=residual,
        input=taps.input_tap(graph, branch, place, residual),
        layer_input=taps.entering_tap(graph, entering, place, output.occurrence.tick),
        norm=norm.path if norm is not None else None,
        scale=output.scale,
        extra={**output.extra, **projected, **layout.extra},
        rows=layout.rows,
    )
    return FoundSite(_by_block(graph, site, place), place, branch.sum.value, branch.sum.stream, entering)


def _by_block(graph: Graph, site: Site, place: Place) -> Site:
    """The site of a block that is called once a layer: its taps count the block's calls, not those of their own modules.

    A module inside may then run once for the block or in pieces. Where it runs more than once already, each its own part
    of the layer, its own calls are counted.
    """
    if place.within is None or not place.whole:
        return site
    is_below = graph.record.is_below
    by_block = {}
    for role in _TAPS:
        tap = getattr(site, role)
        if tap is None or not f"{tap.module}.".startswith(f"{place.path}."):
            continue
        calls = [c for c in graph.calls if c.path == tap.module]
        call = next(c.index for c in calls if c.nth == tap.call)
        blocks = (c for c in graph.calls if c.path == place.path)
        block = next(c for c in blocks if is_below(call, c.index, strictly=False))
        if sum(is_below(c.index, block.index, strictly=False) for c in calls) > 1:
            return site
        by_block[role] = dataclasses.replace(tap, call=block.nth)
    return dataclasses.replace(site, **by_block, extra={**site.extra, "within": place.within})


def _once(sums: ResidualSums, sites: list[FoundSite]) -> list[FoundSite]:
    """The sites of a layer, numbered: one for all calls of a module, unless one call is fed by another."""
    kept: list[FoundSite] = []
    for found in sites:
        carried = sums.carried(found.stream)
        if not any(_any_call(f.site) == _any_call(found.site) and f.total not in carried for f in kept):
            index = sum(f.site.kind == found.site.kind for f in kept)
            found.site = dataclasses.replace(found.site, index=index)
            kept.append(found)
    return kept


def _any_call(site: Site) -> Site:
    """A site without its number and without the numbers of the calls at its taps."""
    present = {role: tap for role in _TAPS if (tap := getattr(site, role)) is not None}
    first_calls = {role: dataclasses.replace(tap, call=0) for role, tap in present.items()}
    return dataclasses.replace(site, index=0, **first_calls)


def _block_site(sums: ResidualSums, axes: Axes, sites: list[FoundSite]) -> FoundSite | None:
    """The site of kind ``layer``: the block's output that carries the last sum made in it."""
    graph = sums.graph
    first, last = sites[0], sites[-1]
    tap: Tap | None = None
    stream = last.total
    if first.place.whole:
        block = graph.calls[first.place.call]
        for passing in block.outputs:
            if passing.reachable and graph.active[passing.value] and last.total in sums.carried(passing.value):
                tap, stream = Tap(block.path, "output", passing.slot, block.nth), passing.value
                break
    elif last.site.norm is not None:
        norm = next(c for c in graph.calls if c.path == last.site.norm and c.first_value > last.total)
        returned = next((p for p in norm.outputs if p.reachable), None)
        if returned is not None:
            tap, stream = Tap(norm.path, "output", returned.slot, norm.nth), returned.value
    if tap is None:
        return None
    layout = axes.layout(f"{first.site.block or '(root)'} (layer)", stream, last.total, width=last.site.width)
    layer_input = first.site.layer_input
    within = {"within": last.site.extra["within"]} if "within" in last.site.extra else {}
    site = Site(
        stack=first.site.stack,
        layer=first.site.layer,
        kind="layer",
        block=first.site.block,
        output=tap,
        width=layout.width,
        residual=layer_input,
        input=layer_input,
        layer_input=layer_input,
        extra={**layout.extra, **within},
        rows=layout.rows,
    )
    return FoundSite(site, first.place, stream, first.entering, first.entering)
