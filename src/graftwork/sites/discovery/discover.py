"""Discovery: run a copy of the model once, find its residual sums and convolutions, and refuse to return half of them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
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
from graftwork.sites.site import Site, SiteMap


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
    """Finds every place where a model adds to its residual stream, and every convolution over images.

    The model itself is not run: a copy of its structure is, once, on fake tensors. Where its control flow depends on
    numbers, the copy runs on the model's weights and a tiny input; of a model on the meta device, on the input's
    numbers alone.

    Args:
        model: A transformer, or any module with residual branches.
        example_inputs: What to call the model with: keyword arguments, or a tuple of positional ones. Only shapes and
            types matter. By default they are made from the model's configuration.
        confirm: Also add a constant at every site of a real run, and check that the sum moves by it.

    Returns:
        The sites, in order of execution.

    Raises:
        SiteError: If the model cannot be run, or if not every layer's sites were found.
    """
    seen = observe(model, example_inputs)
    if confirm:
        for one in seen:
            confirm_sites(model, one.run, one.findings.sites)
    return site_map(model, seen)


def site_map(model: torch.nn.Module, seen: list[Seen]) -> SiteMap:
    """The sites that runs of a model showed, in order of execution."""
    prefix = _base_of(model)[1]
    sites: list[Site] = []
    for one in seen:
        sites += [found.site for found in one.findings.sites]
    for one in seen:
        sites += one.findings.convolutions
    for one in seen:
        sites += embedding_sites(model, one.findings, prefix)
        sites += output_projection_sites(model, one.findings)
    projections = [site for one in seen for site in one.findings.projections]
    return SiteMap(
        sites, model_class=type(model).__name__, prefix=prefix, norms=norm_paths(model), projections=projections
    )


def norm_paths(model: torch.nn.Module) -> tuple[str, ...]:
    """The dotted paths of every norm of a model without its heads that one of an adapter's can stand in for, in order."""
    base, prefix = _base_of(model)
    return tuple(f"{prefix}{name}" for name, _ in ops.norms_of(base) if name)


def _base_of(model: torch.nn.Module) -> tuple[torch.nn.Module, str]:
    """The model without its heads and, under peft, without the wrappers around it; and the path to it with a dot."""
    base, inner = model, getattr(model, "base_model", None)
    while isinstance(inner, torch.nn.Module) and inner is not base:
        base, inner = inner, getattr(inner, "base_model", None)
    return base, next((f"{name}." for name, module in model.named_modules() if module is base and name), "")


def observe(model: torch.nn.Module, example_inputs: Mapping[str, Any] | tuple[Any, ...] | None = None) -> list[Seen]:
    """Runs a copy of the model, then of the sub-models that it did not reach, and checks what was found."""
    first = _first_that_runs(model, runs_to_try(model, example_inputs))
    check(model, first.findings)
    seen = [first]
    told: list[str] = []
    if example_inputs is None:
        reached = frozenset(call.path for call in first.findings.graph.calls)
        for run in runs_of_parts(model, reached):
            try:
                part = _first_that_runs(model, [run], apart=True)
                check(model, part.findings)
            except SiteError as error:
                cause = error.__cause__ or error
                told.append(run.entry)
                warnings.warn(
                    f"{run.entry} of this {type(model).__name__} gets no sites: the example run did not reach it, and "
                    f"alone it could not be looked at ({type(cause).__name__}: {_first_lines(cause)}). To have some, "
                    "pass example_inputs= that reach it.",
                    stacklevel=3,
                )
            else:
                seen.append(part)
    missed = unreached(model, [one.findings for one in seen], told)
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
        for how, fake, known_inputs in _ways_to_run(model):
            try:
                with _quiet():
                    record = _trace(model, run, fake, known_inputs, caches)
            except Exception as error:  # anything can go wrong in a stranger's forward pass
                failures.append((f"{how}, {run}", error))
            else:
                graph = Graph(record)
                axes = Axes(graph, _at_other_sizes(model, run, fake, known_inputs, caches), apart=apart)
                return Seen(run, fake, assemble(graph, axes))
    listed = "\n".join(f"  - {how}: {type(error).__name__}: {_first_lines(error)}" for how, error in failures)
    raise SiteError(
        f"the {type(model).__name__} could not be run to find its sites:\n{listed}\nPass example_inputs=, a mapping of "
        f"keyword arguments (or a tuple of positional ones) that the model runs on. {how_to_help(model)}"
    ) from failures[-1][1]


def _trace(model: torch.nn.Module, run: Run, fake: bool, known_inputs: bool, caches: list[Any]) -> Record:
    return trace(model, run.args, run.kwargs, fake=fake, known_inputs=known_inputs, entry=run.entry, caches=caches)


def _at_other_sizes(model: torch.nn.Module, run: Run, fake: bool, known_inputs: bool, caches: list[Any]) -> list[Graph]:
    """The same run with more rows and other sizes: both at once, else one after the other; what fails is left out."""

    def first_of(runs: Iterable[Run]) -> list[Graph]:
        for other in runs:
            with contextlib.suppress(Exception), _quiet():
                return [Graph(_trace(model, other, fake, known_inputs, caches))]
        return []

    return first_of(varied(run)) or first_of([with_more_rows(run)]) or first_of(with_other_sizes(run))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's own report of every run on fake tensors that fails; what failed is in the error, if all did."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _ways_to_run(model: torch.nn.Module) -> list[tuple[str, bool, bool]]:
    """How to trace a model: in words, `fake`, `known_inputs`. The second is for control flow that asks for numbers."""
    on_meta = any(parameter.device.type == "meta" for parameter in model.parameters())
    with_numbers = ("on fake weights and known inputs", True, True) if on_meta else ("for real", False, False)
    return [("on fake tensors", True, False), with_numbers]


def _first_lines(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
