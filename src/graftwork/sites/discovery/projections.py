"""Sites of kind ``projection``: at the linear modules inside the layers, where LoRA and its kin are added.

    y = W x + c        x the module's input, y its output, whatever class the module is of, quantised or not

A module is linear where it says its two sizes and has no parts, or is called linear (quantised ones keep packed weights in a
part; a wrapper of peft has the module itself inside). Packed experts, whose weights have three
dimensions, are none; nor is what is computed without a call of the module (the maps inside `torch.nn.MultiheadAttention`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor, nn

from graftwork.sites.discovery.axes import Axes
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.layers import Place
from graftwork.sites.site import Site, Tap


def linear_sizes(module: nn.Module) -> tuple[int, int] | None:
    """The sizes of a linear module's input and output, ``None`` for any other module."""
    if next(module.children(), None) is not None and "linear" not in type(module).__name__.lower():
        return None
    sizes = getattr(module, "in_features", None), getattr(module, "out_features", None)
    if all(isinstance(size, int) for size in sizes):
        return sizes  # type: ignore[return-value]
    weight = getattr(module, "weight", None)
    if is_conv1d(module) and isinstance(weight, Tensor) and weight.dim() == 2:
        return int(weight.shape[0]), int(weight.shape[1])
    return None


def is_conv1d(module: nn.Module) -> bool:
    """Whether a module is the linear map of transformers whose weight is ``(in, out)``."""
    return type(module).__name__ == "Conv1D"


def weight_by_output(module: Any) -> Tensor:
    """The weight of a linear module with a row for each output, ``(out, in)``."""
    weight: Tensor = module.weight
    return weight.t() if is_conv1d(module) else weight


def projection_sites(graph: Graph, axes: Axes, places: Sequence[Place]) -> list[Site]:
    """The linear modules that a run called inside its layers, in order of execution, each once.

    A module that several layers share, or that is called several times, is one site: what is added there is added in every
    call.

    Args:
        graph: The graph of the run.
        axes: What the dimensions of its values hold.
        places: The blocks with a residual sum.
    """
    sites: dict[str, Site] = {}
    linear: set[str] = set()
    for call in graph.calls:
        sizes = linear_sizes(call.module) if call.path not in sites else None
        if sizes is None or any(call.path.startswith(f"{path}.") for path in linear):
            continue
        linear.add(call.path)
        around = [place for place in places if place.path and place.holds(graph, call.index)]
        taken = next((p for p in call.inputs if p.reachable and graph.active[p.value]), None)
        returned = next((p for p in call.outputs if p.reachable and p.slot is None), None)
        if not around or taken is None or taken.slot is None or returned is None:
            continue
        place = max(around, key=lambda p: len(p.path))
        rows = axes.rows(returned.value)
        sites[call.path] = _site(call.path, place.stack, place.layer, place.path, sizes, rows, taken.slot)
    return list(sites.values())


def projections_by_hand(model: nn.Module, sites: Collection[Site]) -> tuple[Site, ...]:
    """The linear modules inside the blocks of sites that were written by hand."""
    blocks = {site.block: site for site in sites if site.block}
    found: dict[str, Site] = {}
    for path, module in model.named_modules():
        sizes = linear_sizes(module)
        around = [block for block in blocks if path.startswith(f"{block}.")]
        if sizes is not None and around and not any(path.startswith(f"{known}.") for known in found):
            block = max(around, key=len)
            found[path] = _site(path, blocks[block].stack, blocks[block].layer, block, sizes, blocks[block].rows, 0)
    keys = {site.key for site in sites}
    return tuple(site for site in found.values() if site.key not in keys)


def _site(
    path: str, stack: str, layer: int, block: str, sizes: tuple[int, int], rows: int | None, slot: int | str
) -> Site:
    return Site(
        stack=stack,
        layer=layer,
        kind="projection",
        block=block,
        output=Tap(path, "output"),
        width=sizes[1],
        input=Tap(path, "input", slot),
        extra={"input_width": sizes[0]},
        rows=rows,
    )
