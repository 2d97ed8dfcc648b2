"""Grouping branches in layers, and layers in stacks."""

from __future__ import annotations

import collections
import dataclasses

from graftwork.sites.discovery.branch import Branch
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.sums import ResidualSums

_MIXING = ("attention", "cross_attention", "mixer", "composite")


@dataclasses.dataclass(slots=True)
class Place:
    """Where a branch belongs.

    Attributes:
        stack: Dotted path of the list of blocks (of what holds the lists, where a model keeps parallel ones).
        layer: Index of the layer in its stack.
        path: Dotted path of the block: the child of the list, or the module that makes the sum.
        call: Index of the call of the block, or, where the block is never called itself, of what calls its parts.
        whole: Whether that call is the block's own: no more and no less than the layer runs in it.
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

    Args:
        sums: The residual sums of the run.
        branches: The branches.
        outputs: For each branch, the path of the module that returns it.
    """
    graph = sums.graph
    innermost = [graph.calls[graph.values[branch.sum.value].calls[-1]] for branch in branches]
    lists = [list_children_of(call.path) for call in innermost]
    mixes: dict[str, dict[int, bool]] = collections.defaultdict(dict)
    for branch, children in zip(branches, lists, strict=True):
        for stack, child, _ in children:
            mixes[stack][child] = mixes[stack].get(child, False) or branch.kind in _MIXING
    loose = {
        entry[0] for output, children in zip(outputs, lists, strict=True) if not children for entry in _first(output)
    }
    places = []
    units = []
    for branch, children, call, output in zip(branches, lists, innermost, outputs, strict=True):
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
        elif _first(output):
            stack, layer, path = _first(output)[0]
            if len(loose) > 1:  # parallel lists: what holds them all is the stack, and the block of every layer
                stack, path = stack.rpartition(".")[0], call.path
            places.append(Place(stack, layer, path, call.index, whole=False))
            units.append((str(layer), call.nth))
        else:
            places.append(Place(call.path.rpartition(".")[0], -1, call.path, call.index, listed=False))
            units.append((call.path, call.nth))
    chains = _chained(sums, branches, units)
    for place, unit in zip(places, units, strict=True):
        place.within = chains.within.get(unit[0])
    _count_layers(places, [(path, chains.position[path, nth]) for path, nth in units])
    return places


@dataclasses.dataclass(slots=True)
class _Chains:
    """For each call of a block its position in the chain of calls that feed one another, and what runs the whole chain."""

    position: dict[tuple[str, int], int]
    within: dict[str, str]


def _chained(sums: ResidualSums, branches: list[Branch], units: list[tuple[str, int]]) -> _Chains:
    graph = sums.graph
    made: dict[tuple[str, int], list[Branch]] = collections.defaultdict(list)
    for branch, unit in zip(branches, units, strict=True):
        made[unit].append(branch)
    chains = _Chains({}, {})
    for unit in sorted(made, key=lambda unit: min(branch.sum.value for branch in made[unit])):
        carried = frozenset[int]().union(*(sums.carried(branch.sum.stream) for branch in made[unit]))
        before = [
            other
            for other in chains.position
            if other[0] == unit[0] and any(branch.sum.value in carried for branch in made[other])
        ]
        chains.position[unit] = max((chains.position[other] + 1 for other in before), default=0)
        for other in before:
            open_calls = [graph.values[made[one][0].sum.value].calls for one in (unit, other)]
            common = [a for a, b in zip(*open_calls, strict=False) if a == b]
            chains.within.setdefault(unit[0], graph.calls[common[-1]].path if common else "")
    return chains


def _first(output: str | None) -> list[tuple[str, int, str]]:
    return list_children_of(output or "")[:1]


def _count_layers(places: list[Place], units: list[tuple[str, int]]) -> None:
    """Numbers the layers in order of execution where a block is several layers, or is no child of a list.

    Args:
        places: The places, whose layers are set.
        units: For each place its block, and the position of its call in a chain of calls.
    """
    in_order: dict[str, dict[tuple[str, int], int]] = collections.defaultdict(dict)
    for place, unit in zip(places, units, strict=True):
        in_order[place.stack].setdefault(unit, place.layer)
    for place, unit in zip(places, units, strict=True):
        known = in_order[place.stack]
        if -1 in known.values() or any(position for _, position in known):
            place.layer = list(known).index(unit)
