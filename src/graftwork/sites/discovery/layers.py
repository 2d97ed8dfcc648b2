"""Grouping branches in layers, and layers in stacks."""

from __future__ import annotations

import collections
import dataclasses

from graftwork.sites.discovery.branch import ATTENTIONS, Branch
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.sums import ResidualSums

_MIXING = (*ATTENTIONS, "mixer", "composite")


@dataclasses.dataclass(slots=True)
class Place:
    """Where a branch belongs.

    Attributes:
        stack: Dotted path of the list of blocks; for parallel lists, of the module that holds them.
        layer: Index of the layer in its stack.
        path: Dotted path of the block: the child of the list, or the module that makes the sum.
        call: Index of the call of the block, or, where the block is never called itself, of what calls its parts.
        whole: Whether that call is the block's own: it runs the layer and nothing else.
        listed: Whether the layer is the child of a list.
        within: Where the block is called once a layer, each call fed by the one before: the module whose call runs all of
            them. ``None`` where a layer is one block, however often that is called.
    """

    stack: str
    layer: int
    path: str
    call: int
    whole: bool = True
    listed: bool = True
    within: str | None = None

    def holds(self, graph: Graph, call: int) -> bool:
        """Whether a call happened strictly inside the block."""
        if not graph.record.is_below(call, self.call):
            return False
        return self.whole or not self.path or graph.calls[call].path.startswith(f"{self.path}.")


def list_children_of(path: str) -> list[tuple[str, int, str]]:
    """The lists along a dotted path, outermost first: path of the list, index in it, path of the child."""
    parts = path.split(".")
    return [
        (".".join(parts[:i]), int(part), ".".join(parts[: i + 1])) for i, part in enumerate(parts) if part.isdigit()
    ]


def find_places(sums: ResidualSums, branches: list[Branch], outputs: list[str | None]) -> list[Place]:
    """The place of every branch.

    A layer is the child of the innermost list whose children with sites all mix positions; where there is none, of the
    outermost list. A block that is called more than once is a layer a call only where each call is fed by the one before
    (layers that share their weights); one that is called for several texts, or piece by piece, is one layer.
    ``outputs`` has for each branch the path of the module that returns it.
    """
    graph = sums.graph
    innermost = [graph.calls[graph.values[branch.sum.value].calls[-1]] for branch in branches]
    lists = [list_children_of(call.path) for call in innermost]
    mixes: dict[str, dict[int, bool]] = collections.defaultdict(dict)
    for branch, children in zip(branches, lists, strict=True):
        for stack, child, _ in children:
            mixes[stack][child] = mixes[stack].get(child, False) or branch.kind in _MIXING
    output_lists = [list_children_of(output or "") for output in outputs]
    loose = {found[0][0] for found, children in zip(output_lists, lists, strict=True) if found and not children}
    places = []
    units = []  # for each place its block, and which call of it
    for branch, children, call, found in zip(branches, lists, innermost, output_lists, strict=True):
        if children:
            mixing = [entry for entry in children if all(mixes[entry[0]].values())]
            stack, layer, path = mixing[-1] if mixing else children[0]
            open_calls = [graph.calls[c] for c in graph.values[branch.sum.value].calls]
            own = next((c for c in open_calls if c.path == path), None)
            # some models call the parts of a block, or its forward, and never the block
            around = [c for c in open_calls if not f"{c.path}.".startswith(f"{path}.")]
            block = own or (around or open_calls)[-1]
            places.append(Place(stack, layer, path, block.index, whole=own is not None))
            units.append((path, block.nth if own else call.nth))
        elif found:
            stack, layer, path = found[0]
            if len(loose) > 1:  # parallel lists: what holds them all is the stack, and the block of every layer
                stack, path = stack.rpartition(".")[0], call.path
            places.append(Place(stack, layer, path, call.index, whole=False))
            units.append((str(layer), call.nth))
        else:
            places.append(Place(call.path.rpartition(".")[0], -1, call.path, call.index, listed=False))
            units.append((call.path, call.nth))
    positions, within = _chained(sums, branches, units)
    in_order: dict[str, dict[tuple[str, int], int]] = collections.defaultdict(dict)
    for place, (path, nth) in zip(places, units, strict=True):
        place.within = within.get(path)
        in_order[place.stack].setdefault((path, positions[path, nth]), place.layer)
    for place, (path, nth) in zip(places, units, strict=True):
        known = in_order[place.stack]
        # in order of execution where a block is several layers, or is no child of a list
        if -1 in known.values() or any(position for _, position in known):
            place.layer = list(known).index((path, positions[path, nth]))
    return places


def _chained(
    sums: ResidualSums, branches: list[Branch], units: list[tuple[str, int]]
) -> tuple[dict[tuple[str, int], int], dict[str, str]]:
    """For each call of a block its position among the calls that feed one another, and for each block what runs them all."""
    graph = sums.graph
    made: dict[tuple[str, int], list[Branch]] = collections.defaultdict(list)
    for branch, unit in zip(branches, units, strict=True):
        made[unit].append(branch)
    positions: dict[tuple[str, int], int] = {}
    within: dict[str, str] = {}
    for unit in sorted(made, key=lambda unit: min(branch.sum.value for branch in made[unit])):
        carried = frozenset[int]().union(*(sums.carried(branch.sum.stream) for branch in made[unit]))
        before = [
            other
            for other in positions
            if other[0] == unit[0] and any(branch.sum.value in carried for branch in made[other])
        ]
        positions[unit] = max((positions[other] + 1 for other in before), default=0)
        for other in before:
            open_calls = [graph.values[made[one][0].sum.value].calls for one in (unit, other)]
            common = [a for a, b in zip(*open_calls, strict=False) if a == b]
            within.setdefault(unit[0], graph.calls[common[-1]].path if common else "")
    return positions, within
