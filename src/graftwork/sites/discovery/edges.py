"""The sites at the two ends of a stack of layers: what feeds it, and the output projection after it."""

from __future__ import annotations

import torch

from graftwork.sites.discovery.assemble import Findings, FoundSite
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.site import Site, Tap


def embedding_sites(model: torch.nn.Module, findings: Findings, prefix: str) -> list[Site]:
    """For each stack, the outermost module that returns the stream its first layer takes.

    A stack that continues another one has none. Where no module returns the stream (positions added in between), the
    site is the model's token embedding.
    """
    graph = findings.graph
    entrances: dict[str, FoundSite] = {}
    for found in findings.sites:
        entrances.setdefault(found.site.stack, found)
    sites = []
    for stack, first in entrances.items():
        if _continues(findings, first):
            continue
        tap_and_value = _producer(graph, first, prefix) or _token_embedding(model, graph, first)
        if tap_and_value is None:
            continue
        tap, value = tap_and_value
        layout = findings.axes.layout(f"{tap.module} (embedding)", value, first.entering)
        facts = layout._asdict()
        sites.append(Site(stack, first.site.layer, kind="embedding", block=tap.module, output=tap, **facts))
    return sites


def _continues(findings: Findings, first: FoundSite) -> bool:
    """Whether the stream comes out of a layer of another stack, and no tokens were embedded on the way."""
    graph = findings.graph
    others = [f.total for f in findings.sites if f.site.stack != first.site.stack and f.total < first.entering]
    embedded = [v.index for v in graph.values if v.op == "embedding" and v.index < first.entering]
    fed_by_tokens = any(graph.depends(first.entering, v) for v in embedded)
    return not fed_by_tokens and any(graph.depends(first.entering, total) for total in others)


def _producer(graph: Graph, first: FoundSite, prefix: str) -> tuple[Tap, int] | None:
    for i in graph.path(first.entering):
        candidates = []
        for c in reversed(graph.values[i].returned_by):
            call = graph.calls[c]
            in_base = call.path != "" and call.path.startswith(prefix)
            if (
                in_base
                and not graph.record.is_below(first.place.call, c, strictly=False)
                and (tap := call.output_tap(i))
            ):
                candidates.append((call.depth, tap))
        if candidates:
            return min(candidates, key=lambda candidate: candidate[0])[1], i
    return None


def _token_embedding(model: torch.nn.Module, graph: Graph, first: FoundSite) -> tuple[Tap, int] | None:
    path = _path_of(model, _named_by(model, "get_input_embeddings"))
    for call in graph.calls if path else ():
        for p in call.outputs if call.path == path else ():
            if p.reachable and graph.depends(first.entering, p.value):
                return Tap(call.path, "output", p.slot, call.nth), p.value
    return None


def output_projection_sites(model: torch.nn.Module, findings: Findings) -> list[Site]:
    """The model's projection to its vocabulary, if it has one and ran it: where its input can be read."""
    graph = findings.graph
    projection = _named_by(model, "get_output_embeddings")
    path = _path_of(model, projection)
    for call in graph.calls if path else ():
        taken = next((p for p in call.inputs if p.reachable and graph.active[p.value]), None)
        if call.path != path or taken is None:
            continue
        feeding = [f for f in findings.sites if f.total <= taken.value and graph.depends(taken.value, f.total)]
        embeddings = _named_by(model, "get_input_embeddings")
        weight = getattr(projection, "weight", None)
        tied = weight is not None and getattr(embeddings, "weight", None) is weight
        return [
            Site(
                stack=feeding[-1].site.stack if feeding else "",
                layer=feeding[-1].site.layer if feeding else 0,
                kind="output_projection",
                block=call.path,
                output=Tap(call.path, "input", taken.slot, call.nth),
                width=int(graph.values[taken.value].shape[-1]),
                extra={"tied": tied},
                rows=findings.axes.rows(taken.value),
            )
        ]
    return []


def _named_by(model: torch.nn.Module, method: str) -> torch.nn.Module | None:
    """A module that transformers models can name; those that cannot raise, in several ways."""
    try:
        module = getattr(model, method)()
    except Exception:
        return None
    return module if isinstance(module, torch.nn.Module) else None


def _path_of(model: torch.nn.Module, part: torch.nn.Module | None) -> str | None:
    return next((name for name, module in model.named_modules() if module is part), None)
