"""What ran in a model, by the names of its modules' classes, and what of that lies in the branch of a site.

Names say nothing of what a module computes, and discovery goes by what is computed: each keeps an eye on the other.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from graftwork.sites.discovery.coverage import in_branches, operations
from graftwork.sites.discovery.discover import Seen
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.layers import list_children_of
from graftwork.sites.discovery.values import Call

NAMES = {
    "attention": re.compile(r"attention|attn", re.IGNORECASE),
    "feed_forward": re.compile(r"mlp|feed_?forward|ffn|experts|intermediate", re.IGNORECASE),
}


@dataclasses.dataclass
class Counts:
    """The operations of a model by kind.

    Attributes:
        ran: How many ran.
        covered: How many of them lie in the branch of a site.
        elsewhere: Where the others are: how many by their paths with a star for every number.
        named: Modules in layers that are named after such an operation and lie in no branch, likewise.
    """

    ran: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    covered: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    elsewhere: dict[str, collections.Counter[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    named: dict[str, collections.Counter[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """By kind: how many ran, how many are covered, and where the others are."""
        return {
            kind: {
                "ran": self.ran[kind],
                "covered": self.covered[kind],
                "elsewhere": dict(self.elsewhere[kind]),
                "named": dict(self.named[kind]),
            }
            for kind in NAMES
        }


def counts_of(seen: Iterable[Seen]) -> Counts:
    """The operations of all runs."""
    counts = Counts()
    for one in seen:
        for operation in operations(one.findings):
            counts.ran[operation.kind] += 1
            counts.covered[operation.kind] += operation.covered
            if not operation.covered:
                counts.elsewhere[operation.kind][_starred(operation.path)] += 1
        for kind, path, name in modules_in_no_branch(one):
            counts.named[kind][f"{_starred(path)} ({name})"] += 1
    return counts


def _starred(path: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in path.split("."))


def modules_in_no_branch(seen: Seen) -> Iterator[tuple[str, str, str]]:
    """The kind, the path and the class of every module of such a name that ran in a layer and outside of every branch."""
    graph = seen.findings.graph
    sites = [found for found in seen.findings.sites if found.site.kind != "layer"]
    branches = {c for i in in_branches(graph, sites) for c in graph.values[i].calls}
    paths = {graph.calls[c].path for c in branches}
    layers = {found.place.path for found in sites if found.place.listed}
    for kind, name in NAMES.items():
        named = [call for call in graph.calls if name.search(type(call.module).__name__)]
        parents = {parent for call in named for parent in _around(graph, call)}
        for call in named:
            in_layer = any(child in layers for _, _, child in list_children_of(call.path))
            works = any(graph.is_map(v.index) for v in graph.values if call.index in v.calls)
            if call.index not in parents and in_layer and works and call.path not in paths:
                yield kind, call.path, type(call.module).__name__


def _around(graph: Graph, call: Call) -> Iterator[int]:
    parent = call.parent
    while parent is not None:
        yield parent
        parent = graph.calls[parent].parent
