"""Discovery: run a copy of the model once, find its residual sums and convolutions, and refuse if some are missing."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from graftwork.errors import SiteError
from graftwork.sites.discovery import ops
from graftwork.sites.discovery.assemble import Findings, assemble
from graftwork.sites.discovery.axes import Axes
from graftwork.sites.discovery.confirm import confirm_sites
from graftwork.sites.discovery.coverage import unreached
from graftwork.sites.discovery.edges import embedding_sites, output_projection_sites
from graftwork.sites.discovery.example_inputs import Run, runs_of_parts, runs_to_try
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.other_sizes import varied, with_more_rows, with_other_sizes
from graftwork.sites.discovery.record import Record
from graftwork.sites.discovery.refuse import check, how_to_help
from graftwork.sites.discovery.skeleton import trace
from graftwork.sites.site import SiteMap


@dataclasses.dataclass
class Seen:
    """A run that succeeded, and what it showed."""

    run: Run
    fake: bool
    findings: Findings


def discover(
    model: torch.nn.Module,
    example_inputs: Mapping[str, Any] | tuple[Any, ...] | None = None,
    *,
    confirm: bool = False,
) -> SiteMap:
    """Find every place where a model adds to its residual stream, and every convolution over images.

    The model itself is not run: a copy of its structure is, on fake tensors. Where its control flow depends on numbers,
    the copy runs on the model's weights and a tiny input; where the model is on the meta device, on fake weights and an
    input with numbers.

    Args:
        model: A transformer, or any module with residual branches.
        example_inputs: What to call the model with: keyword arguments, or a tuple of positional ones. Only shapes and
            types matter. By default they are made from the model's configuration.
        confirm: Also add a constant at every site of a real run, and check that the sum moves by it.

    Returns:
        The sites, in order of execution.

    Raises:
        SiteError: If the model cannot be run, or if not every layer's sites were found.

    Example:
        >>> sites = gw.discover(model)
        >>> sites.stacks
        {'bert.encoder.layer': 2}
        >>> sites["encoder.layer.0.attention"].kind
        'attention'
    """
    seen = observe(model, example_inputs)
    if confirm:
        for one in seen:
            confirm_sites(model, one.run, one.findings.sites)
    return site_map(model, seen)


def site_map(model: torch.nn.Module, seen: list[Seen]) -> SiteMap:
    """The sites that runs of a model showed, in order of execution."""
    prefix = _base_of(model)[1]
    sites = [found.site for one in seen for found in one.findings.sites]
    sites += [site for one in seen for site in one.findings.convolutions]
    for one in seen:
        sites += embedding_sites(model, one.findings, prefix)
        sites += output_projection_sites(model, one.findings)
    keys = {site.key for site in sites}  # a linear module may be a whole branch, and be called like its kind
    projections = [site for one in seen for site in one.findings.projections if site.key not in keys]
    return SiteMap(
        sites, model_class=type(model).__name__, prefix=prefix, norms=norm_paths(model), projections=projections
    )


def norm_paths(model: torch.nn.Module) -> tuple[str, ...]:
    """The dotted paths of every norm of a model, without its heads, that a norm of an adapter can replace, in order."""
    base, prefix = _base_of(model)
    return tuple(f"{prefix}{name}" for name, _ in ops.norms_of(base) if name)


def _base_of(model: torch.nn.Module) -> tuple[torch.nn.Module, str]:
    """The model without its heads and, under peft, without the wrappers around it; and the path to it with a dot."""
    base, inner = model, getattr(model, "base_model", None)
    while isinstance(inner, torch.nn.Module) and inner is not base:
        base, inner = inner, getattr(inner, "base_model", None)
    return base, next((f"{name}." for name, module in model.named_modules() if module is base and name), "")


def observe(model: torch.nn.Module, example_inputs: Mapping[str, Any] | tuple[Any, ...] | None = None) -> list[Seen]:
    """Run a copy of the model, then of the sub-models that it did not reach, and check what was found."""
    first = _first_that_runs(model, runs_to_try(model, example_inputs))
    check(model, first.findings)
    seen = [first]
    left_out: list[str] = []
    reached = frozenset(call.path for call in first.findings.graph.calls)
    for run in runs_of_parts(model, reached) if example_inputs is None else ():
        try:
            part = _first_that_runs(model, [run], apart=True)
            check(model, part.findings)
        except SiteError as error:
            cause = error.__cause__ or error
            left_out.append(run.entry)
            warnings.warn(
                f"{run.entry} of this {type(model).__name__} gets no sites: the example run did not reach it, and running "
                f"it alone failed ({type(cause).__name__}: {_first_lines(cause)}). To have some, pass example_inputs= that "
                "reach it.",
                stacklevel=3,
            )
        else:
            seen.append(part)
    missed = unreached(model, [one.findings for one in seen], left_out)
    if missed:
        warnings.warn(
            f"{', '.join(missed)} of this {type(model).__name__} get no sites: the example run did not reach them. To have "
            "some, pass example_inputs= that reach them.",
            stacklevel=3,
        )
    return seen


def _first_that_runs(model: torch.nn.Module, runs: list[Run], *, apart: bool = False) -> Seen:
    failures: list[tuple[str, Exception]] = []
    caches: list[Any] = []
    for run in runs:
        for how, options in _ways_to_run(model).items():
            try:
                record = _recorded(model, run, options, caches)
            except Exception as error:  # anything can go wrong in a stranger's forward pass
                failures.append((f"{how}, {run}", error))
            else:
                graph = Graph(record)
                axes = Axes(graph, _at_other_sizes(model, run, options, caches), apart=apart)
                return Seen(run, options.get("fake", True), assemble(graph, axes))
    listed = "\n".join(f"  - {how}: {type(error).__name__}: {_first_lines(error)}" for how, error in failures)
    raise SiteError(
        f"the {type(model).__name__} could not be run to find its sites:\n{listed}\nPass example_inputs=, a mapping of "
        f"keyword arguments (or a tuple of positional ones) that the model runs on. {how_to_help(model)}"
    ) from failures[-1][1]


def _ways_to_run(model: torch.nn.Module) -> dict[str, dict[str, Any]]:
    """How to trace a model: options of `trace`, by words for them. The second is for control flow that needs numbers."""
    if any(parameter.device.type == "meta" for parameter in model.parameters()):
        return {"on fake tensors": {}, "on fake weights and known inputs": {"known_inputs": True}}
    return {"on fake tensors": {}, "for real": {"fake": False}}


def _recorded(model: torch.nn.Module, run: Run, options: Mapping[str, Any], caches: list[Any]) -> Record:
    """The record of a run, without torch's own report where it fails on fake tensors: the error says what failed."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        return trace(model, run.args, run.kwargs, **options, entry=run.entry, caches=caches)
    finally:
        logger.disabled = before


def _at_other_sizes(model: torch.nn.Module, run: Run, options: Mapping[str, Any], caches: list[Any]) -> list[Graph]:
    """The same run with more rows and other sizes: both at once, else one after the other; what fails is left out."""

    def first_of(runs: Iterable[Run]) -> list[Graph]:
        for other in runs:
            with contextlib.suppress(Exception):
                return [Graph(_recorded(model, other, options, caches))]
        return []

    return first_of(varied(run)) or first_of([with_more_rows(run)]) or first_of(with_other_sizes(run))


def _first_lines(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
