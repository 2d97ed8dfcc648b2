"""The norms of adapters: made or copied, and kept next to those of the base."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from graftwork.forward.call_inputs import parameters_of
from graftwork.forward.ports import uninstall
from graftwork.methods import AdapterConfig, NormPlace
from graftwork.sites import SiteMap
from graftwork.weights.holder import Named, device_at, holder_at, holder_or_none, made_on
from graftwork.weights.offload import settled
from graftwork.weights.sharded import refuse_shards


def build_norms(
    model: nn.Module, sites: SiteMap, config: AdapterConfig, shared: nn.Module | None
) -> dict[int, nn.Module]:
    """The norms of a new adapter, by the place in the map of the base's norm that each replaces."""
    parameters = parameters_of(model)
    names = tuple(p.name for p in parameters.named)
    data = getattr(model, "main_input_name", None)
    required = tuple(p.name for p in parameters.required if p.name != data)
    built = {}
    for index, path in enumerate(sites.norms):
        norm = settled(model.get_submodule(path))
        place = NormPlace(path.removeprefix(sites.prefix), names, required, parameters.open)
        device = device_at(model, path)
        with made_on(device):
            made = config.norm_for(norm, place, shared)
        if made is None:
            continue
        refuse_shards(made, f"{type(config).__name__} copies the norm {path!r}")
        for module in made.modules():
            uninstall(module)  # a copy has the hooks of the base's norm
        if any(p.dtype != config.torch_dtype for p in made.parameters()):
            made.to(config.torch_dtype)
        built[index] = made.requires_grad_(True).to(device).train(model.training)
    return built


def put_norms(model: nn.Module, sites: SiteMap, name: str, norms: Mapping[int, nn.Module]) -> None:
    """Keep the norms that an adapter owns next to those of the base, frozen."""
    for index, norm in norms.items():
        holder = holder_at(model, sites.norms[index].rpartition(".")[0])
        if str(index) not in holder.norms:
            holder.norms[str(index)] = Named()
        holder.norms[str(index)].put(name, norm.requires_grad_(False))  # type: ignore[operator]


def norms_at(model: nn.Module, sites: SiteMap, name: str) -> dict[int, nn.Module]:
    """The norms that an adapter owns, by the place in the map of the norm that each replaces."""
    finders, _ = norm_finders(model, sites)
    found = {index: find(name) for index, find in finders.items()}
    return {index: norm for index, norm in found.items() if norm is not None}


def norm_finders(
    model: nn.Module, sites: SiteMap
) -> tuple[dict[int, Callable[[str], nn.Module | None]], dict[int, nn.Module]]:
    """For each norm of the base that adapters replace, by its place in the map: a lookup by name, and the base's module."""
    finders: dict[int, Callable[[str], nn.Module | None]] = {}
    modules = {}
    for index, path in enumerate(sites.norms):
        holder = holder_or_none(model, path.rpartition(".")[0])
        if holder is not None and str(index) in holder.norms:
            finders[index] = holder.norms[str(index)].serving  # type: ignore[assignment]
            modules[index] = model.get_submodule(path)
    return finders, modules


def drop_norms(model: nn.Module, sites: SiteMap, name: str) -> None:
    """Remove the norms of an adapter."""
    for index, path in enumerate(sites.norms):
        holder = holder_or_none(model, path.rpartition(".")[0])
        if holder is not None and str(index) in holder.norms:
            holder.norms[str(index)].drop(name)  # type: ignore[operator]


def with_statistics(module: nn.Module) -> list[nn.Module]:
    """The norms inside a module that keep running statistics."""
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats]
