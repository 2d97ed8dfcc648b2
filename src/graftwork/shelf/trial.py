"""A forward pass of an attached model on a small fixed input, and whether two have the same outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from graftwork.attach import Handle
from graftwork.compose import BatchSplit, Block, Composition, MixedBatch, Split, names_in
from graftwork.errors import CheckpointError, CompositionError, SiteError
from graftwork.sites.discovery.example_inputs import runs_to_try

TOLERANCE = 1e-5
Outputs = list[Tensor]


def outputs(handle: Handle, composition: Composition, **options: Any) -> Outputs:
    """What a model computes with a composition, on inputs that are the same for every call.

    Where the composition names several heads for one output, it is computed with each of them.

    Args:
        handle: The model.
        composition: The composition.
        **options: Of `Handle.using`, such as ``head``.

    Raises:
        CheckpointError: If no inputs can be made for the model.
        CompositionError: If the composition cannot be computed.
    """
    inputs = _inputs(handle, composition)
    try:
        return _computed(handle, composition, inputs, **options)
    except CompositionError:
        heads = [name for name in dict.fromkeys(names_in(composition)) if handle.labels(name) is not None]
        if options or not heads:
            raise
        return [tensor for head in heads for tensor in _computed(handle, composition, inputs, head=head)]


def _inputs(handle: Handle, composition: Composition) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            run = runs_to_try(handle.model, None)[0]
        except SiteError as error:
            raise CheckpointError(f"its outputs cannot be computed: {error}") from error
    rows, positions = _sizes(composition)
    device = next((p.device for p in handle.model.parameters()), torch.device("cpu"))
    inputs = {name: _filled(value, rows, positions) for name, value in run.kwargs.items()}
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in inputs.items()}


def _computed(handle: Handle, composition: Composition, inputs: Mapping[str, Any], **options: Any) -> Outputs:
    with torch.no_grad(), handle.using(composition, **options):
        return [tensor.float() for tensor in _tensors(handle.model(**inputs))]


def difference(one: Outputs, other: Outputs) -> float:
    """The largest difference of two outputs, relative to values larger than 1; infinite where they are of other shapes."""
    if [tensor.shape for tensor in one] != [tensor.shape for tensor in other]:
        return float("inf")
    pairs = zip(one, other, strict=True)
    values = [((a - b).abs() / a.abs().clamp(min=1)).max().item() for a, b in pairs if a.numel()]
    return max(values, default=0.0)


def _sizes(composition: Composition) -> tuple[int | None, int | None]:
    """The rows and positions that a composition needs, ``None`` where it takes any."""
    rows = positions = None
    for block in composition.walk() if isinstance(composition, Block) else ():
        if isinstance(block, BatchSplit) and rows is None:
            sizes = block.options["batch_sizes"]
            rows = sizes * len(block.children) if isinstance(sizes, int) else sum(sizes)
        elif isinstance(block, MixedBatch) and rows is None:
            rows = len(block.children) * block.options["beams"]
        elif isinstance(block, Split) and positions is None:
            positions = sum(block.options["splits"])
    return rows, positions


def _filled(value: Any, rows: int | None, positions: int | None) -> Any:
    """An input repeated or cut to a number of rows, and tokens to a number of positions."""
    if not isinstance(value, Tensor) or not value.dim():
        return value
    if rows is not None:
        value = value[torch.arange(rows) % len(value)]
    if positions is not None and value.dim() == 2 and not value.is_floating_point():
        value = value[:, torch.arange(positions) % value.shape[1]]
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _tensors(inner)
