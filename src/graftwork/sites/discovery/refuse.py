"""Refusing: a part of a model that should have sites and has none is an error, not a smaller result."""

from __future__ import annotations

import collections

import torch

from graftwork.errors import SiteError
from graftwork.sites.discovery import ops
from graftwork.sites.discovery.assemble import Findings, FoundSite
from graftwork.sites.discovery.coverage import keeps_shape, operations

_BY_HAND = """Give the sites by hand:
    from graftwork.sites import sites_from_paths
    sites = sites_from_paths(model, {"attention": "layers.*.attn", "feed_forward": "layers.*.mlp"})
    gw.attach(model, sites=sites)
or write them out, one for each branch that is added to the stream:
    gw.Site(stack="layers", layer=0, kind="feed_forward", block="layers.0",
            output=gw.Tap("layers.0.mlp", "output"), width=768)"""

_NORMS_ONLY = """
A method that only replaces norms (such as self-modulation of a generator) needs no sites:
    gw.attach(model, sites=())"""

_WORDS = {"attention": "attention", "feed_forward": "a feed-forward"}


def how_to_help(model: torch.nn.Module) -> str:
    """What the user can do where discovery does not find the sites of a model."""
    return f"{_BY_HAND}{_NORMS_ONLY if any(ops.norms_of(model)) else ''}"


def check(model: torch.nn.Module, findings: Findings) -> None:
    """Refuse findings that miss a part of the model.

    Raises:
        SiteError: If there are no sites and no convolutions, a layer ran an attention or a feed-forward that is in the
            branch of no site, a block lacks sites that one of the same modules has, or a branch is returned by no module.
    """
    found = [f for f in findings.sites if f.site.kind != "layer"]
    if not found and not findings.without_output and not findings.convolutions:
        raise SiteError(
            f"no residual sums were found in a {type(model).__name__}: looked at {len(findings.graph.values)} tensors "
            f"and {len(findings.graph.calls)} module calls of one forward pass, and no branch was added to what it was "
            f"made from; nor are there convolutions over images after the first. {how_to_help(model)}"
        )
    complaints = [*_without_module(findings), *_uncovered(findings), *_unlike_siblings(model, findings, found)]
    if complaints:
        listed = "\n".join(f"  - {complaint}" for complaint in complaints[:12])
        more = f"\n  and {len(complaints) - 12} more" if len(complaints) > 12 else ""
        stacks = ", ".join(sorted({f.site.stack or "(root)" for f in found}))
        raise SiteError(
            f"not every site of this {type(model).__name__} was found, and adapters would miss parts of it:\n"
            f"{listed}{more}\n{len(found)} sites were found, in {stacks}. {_BY_HAND}"
        )


def _without_module(findings: Findings) -> list[str]:
    graph = findings.graph
    adders = [graph.calls[graph.values[branch.sum.value].calls[-1]].path for branch, _ in findings.without_output]
    return [
        f"{place.path or '(root)'}: the {branch.kind} branch is returned by no module, so no hook can reach it "
        f"(its sum runs in the forward of {adder or 'the root'})"
        for (branch, place), adder in zip(findings.without_output, adders, strict=True)
    ]


def _uncovered(findings: Findings) -> list[str]:
    """Layers that ran an attention or a feed-forward that is in the branch of no site."""
    lost = [f"{one.block}: ran {_WORDS[one.kind]} (in {one.path})" for one in operations(findings) if one.lost]
    return [f"{one} that no site covers: its output is added to no residual stream" for one in dict.fromkeys(lost)]


def _unlike_siblings(model: torch.nn.Module, findings: Findings, found: list[FoundSite]) -> list[str]:
    """Blocks that lack a kind of site that a block of the same list and the same modules has."""
    graph = findings.graph
    ran = {
        call.path for call in graph.calls if keeps_shape(graph, call)
    }  # a call that changes the shape has no stream to add to
    makes: dict[tuple[str, tuple[str, ...]], dict[str, set[str]]] = collections.defaultdict(dict)
    for f in found:
        if f.place.whole and f.place.path:
            makes[f.site.stack, _make(model, f.place.path)].setdefault(f.place.path, set()).add(f.site.name)
    complaints = []
    for (stack, make), blocks in makes.items():
        for name, _ in model.get_submodule(stack).named_children():
            path = f"{stack}.{name}" if stack else name
            if path in ran and path not in blocks and _make(model, path) == make:
                blocks[path] = set()
        full = set().union(*blocks.values())
        example = max(blocks, key=lambda block: len(blocks[block]))
        for block, kinds in blocks.items():
            if kinds != full:
                lacking = ", ".join(sorted(full - kinds))
                complaints.append(f"{block}: lacks {lacking}, which {example}, made of the same modules, has")
    return complaints


def _make(model: torch.nn.Module, path: str) -> tuple[str, ...]:
    return tuple(f"{name}:{type(module).__name__}" for name, module in model.get_submodule(path).named_modules())
