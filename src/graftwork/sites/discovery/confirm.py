"""Confirming sites with numbers: a constant added at a site must arrive at its residual sum."""

from __future__ import annotations

from typing import Any

import torch

from graftwork.errors import SiteError
from graftwork.sites.discovery.assemble import FoundSite, assemble
from graftwork.sites.discovery.example_inputs import Run
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.record import Record
from graftwork.sites.discovery.skeleton import trace
from graftwork.sites.site import Tap

_DELTA = 0.5  # the constant


def confirm_sites(model: torch.nn.Module, run: Run, expected: list[FoundSite]) -> None:
    """Run a copy of the model on real tensors once for each branch, with a constant added to the branch's output.

    Raises:
        SiteError: If a real run shows other sites, or some sum does not move by the constant times the site's scale.
    """
    try:
        trace(model, run.args, run.kwargs, fake=False, entry=run.entry)  # fills caches: all runs after it are alike
        graph = Graph(trace(model, run.args, run.kwargs, fake=False, entry=run.entry))
    except Exception as cause:
        raise SiteError(
            f"the sites cannot be confirmed, {run} does not run: {type(cause).__name__}: {cause}"
        ) from cause
    found = {f.site.key: f for f in assemble(graph).sites}
    wrong = [f"{f.site.key}: a run on real tensors does not show it" for f in expected if f.site.key not in found]
    branches = [f for f in found.values() if f.site.kind != "layer"]
    before = _sums(model, run, frozenset(f.total for f in branches))
    for f in branches:
        if "factor" in f.site.extra:  # depends on the data: there is no one number to expect
            continue
        after = _sums(model, run, frozenset((f.total,)), at=f.site.output)
        error = _error(model, f, before.get(f.total), after.get(f.total))
        if error is not None:
            wrong.append(f"{f.site.key}: {error}")
    if wrong:
        listed = "\n".join(f"  - {line}" for line in wrong)
        raise SiteError(
            f"{len(wrong)} of {len(branches)} sites of this {type(model).__name__} were not confirmed:\n{listed}"
        )


def _sums(model: torch.nn.Module, run: Run, totals: frozenset[int], at: Tap | None = None) -> dict[int, torch.Tensor]:
    """The numbers of some residual sums in a real run, with the constant added at a tap."""
    record = Record(keep=totals)
    calls = 0

    def add(module: torch.nn.Module, args: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        return _shifted(record, output, at.slot) if at is not None and calls == at.call + 1 else None

    def prepare(structure: torch.nn.Module) -> None:
        if at is not None:
            structure.get_submodule(at.module).register_forward_hook(add)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # some models draw numbers even in eval mode
        trace(model, run.args, run.kwargs, fake=False, entry=run.entry, record=record, prepare=prepare)
    return record.kept


def _shifted(record: Record, output: Any, slot: int | str | None) -> Any:
    if slot is None:
        with record.unseen():
            return record.stand_in(output, output.detach() + _DELTA)
    if isinstance(output, tuple):
        items = list(output)
        items[int(slot)] = _shifted(record, items[int(slot)], None)
        return type(output)(*items) if hasattr(output, "_fields") else tuple(items)
    output[slot] = _shifted(record, output[slot], None)
    return output


def _error(model: torch.nn.Module, f: FoundSite, before: torch.Tensor | None, after: torch.Tensor | None) -> str | None:
    if before is None or after is None or before.shape != after.shape:
        return "the run with the constant took another path"
    scale = f.site.scale
    factor = model.get_parameter(scale) if isinstance(scale, str) else 1.0 if scale is None else scale
    wanted = torch.as_tensor(_DELTA * factor, dtype=before.dtype, device=before.device)
    while wanted.dim() and wanted.numel() > 1 and wanted.shape[-1] != before.shape[-1] and wanted.dim() < before.dim():
        wanted = wanted.unsqueeze(-1)  # a factor for each channel of an image layout
    finite = before.isfinite() & after.isfinite()  # rows of padding may hold anything
    if not finite.any():
        return "the sum is not finite"
    moved = (after - before).double()[finite]
    tolerance = 16 * torch.finfo(before.dtype).eps * max(1.0, float(before[finite].abs().max()))
    off = float((moved - wanted.double().expand_as(before)[finite]).abs().max())
    if off <= tolerance:
        return None
    return f"the sum moved by {float(moved.mean()):.6g}, up to {off:.3g} off what was added"
