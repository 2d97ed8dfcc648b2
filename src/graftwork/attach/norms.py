"""The norms of adapters: made or copied, kept beside the base's, found again, and their statistics held still.

A batch norm in training takes the batch's own statistics and moves its running ones. So do those that learn, the base's where
it is trained whole and an adapter's own where that adapter learns; all others stand still, and are fixed functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import nn

from graftwork.forward.call_inputs import parameters_of
from graftwork.forward.ports import uninstall
from graftwork.methods import AdapterConfig, NormPlace
from graftwork.sites import SiteMap
from graftwork.weights.holder import Holder, Named, device_at, holder_at, holder_or_none, made_on
from graftwork.weights.offload import settled

_WITH_STATISTICS = nn.modules.batchnorm._NormBase


def build_norms(
    model: nn.Module, sites: SiteMap, config: AdapterConfig, shared: nn.Module | None
) -> dict[int, nn.Module]:
    """What stands in for the norms of the base under a new adapter, by the norm's place in the map.

    Raises:
        ConfigError: If the configuration does not fit a norm, or the model.
    """
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
            mine = config.norm_for(norm, place, shared)
        if mine is not None:
            built[index] = _finished(mine, config.torch_dtype).to(device).train(model.training)
    return built


def _finished(norm: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Without the hooks that a copy has of the base's norm, its weights in the dtype that they are trained in."""
    for module in norm.modules():
        uninstall(module)
    for p in norm.parameters():
        p.requires_grad_(True)
    return norm.to(dtype) if any(p.dtype != dtype for p in norm.parameters()) else norm


def put_norms(model: nn.Module, sites: SiteMap, name: str, norms: Mapping[int, nn.Module]) -> None:
    """Keep the norms that an adapter owns, beside the base's."""
    for index, norm in norms.items():
        holder = holder_at(model, sites.norms[index].rpartition(".")[0])
        if str(index) not in holder.norms:
            holder.norms[str(index)] = Named()
        holder.norms[str(index)].put(name, norm)  # type: ignore[operator]


def norms_at(model: nn.Module, sites: SiteMap, name: str) -> dict[int, nn.Module]:
    """The norms that an adapter owns, by the place of the base's in the map."""
    finders, _ = norm_finders(model, sites)
    found = {index: find(name) for index, find in finders.items()}
    return {index: norm for index, norm in found.items() if norm is not None}


def norm_finders(
    model: nn.Module, sites: SiteMap
) -> tuple[dict[int, Callable[[str], nn.Module | None]], dict[int, nn.Module]]:
    """For each norm that some adapter stands in for: how to find a name's, and the base's module."""
    finders: dict[int, Callable[[str], nn.Module | None]] = {}
    modules = {}
    for index, path in enumerate(sites.norms):
        holder = holder_or_none(model, path.rpartition(".")[0])
        if holder is not None and str(index) in holder.norms:
            finders[index] = holder.norms[str(index)].serving  # type: ignore[assignment]
            modules[index] = model.get_submodule(path)
    return finders, modules


def drop_norms(model: nn.Module, name: str) -> None:
    """Take an adapter's norms out."""
    for module in model.modules():
        if isinstance(module, Holder):
            for named in module.norms.values():
                named.drop(name)  # type: ignore[operator]


def with_statistics(module: nn.Module) -> list[nn.Module]:
    """The norms inside a module that keep running statistics."""
    return [m for m in module.modules() if isinstance(m, _WITH_STATISTICS) and m.track_running_stats]


def standing_still(
    base: Collection[nn.Module], owned: Mapping[str, list[nn.Module]], learning: Collection[str], mode: str
) -> list[nn.Module]:
    """The norms whose statistics do not move: the base's unless it is trained whole, and those of what does not learn.

    Args:
        base: The base's norms that keep statistics.
        owned: Those of each adapter.
        learning: The names that learn.
        mode: How the base learns, see `Handle.train_only`.
    """
    still = [] if mode == "trained" else list(base)
    return [*still, *(norm for name, norms in owned.items() if name not in learning for norm in norms)]
