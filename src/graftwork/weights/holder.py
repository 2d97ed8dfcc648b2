"""The modules that keep the trained weights: a child called ``graftwork`` of each block, moved and sharded with the block."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from graftwork.compose import LearnedModule
from graftwork.errors import AttachError
from graftwork.methods import AdapterModule
from graftwork.weights.names import RESERVED, encode, parted
from graftwork.weights.offload import HOOK, running_device, settle

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Named(nn.ModuleDict):
    """Modules by the name of their adapter, which may be any text."""

    def put(self, name: str, module: nn.Module) -> None:
        """Add a module, or replace the one of that name."""
        self[encode(name)] = module

    def find(self, name: str) -> nn.Module | None:
        """The module of that name, or ``None``."""
        return self._modules.get(encode(name))

    def serving(self, name: str) -> nn.Module | None:
        """The module of that name, else of the adapter that the member belongs to, else ``None``."""
        found = self.find(name)
        return self.find(parted(name)[0]) if found is None else found

    def drop(self, name: str) -> None:
        """Remove the module of that name, if there is one."""
        self._modules.pop(encode(name), None)


class SiteAdapters(nn.Module):
    """The adapters and fusions at one site."""

    def __init__(self) -> None:
        super().__init__()
        self.adapters = Named()
        self.fusions = Named()

    def adapter(self, name: str) -> AdapterModule | None:
        """The adapter of that name at this site, or what an adapter computes for a member, or ``None``."""
        found = self.adapters.find(name)
        if found is not None:
            return found  # type: ignore[return-value]  # what is kept here are AdapterModules
        adapter, member = parted(name)
        whole: AdapterModule | None = self.adapters.find(adapter)  # type: ignore[assignment]
        return None if whole is None else whole.member(member)

    def fusion(self, name: str) -> LearnedModule | None:
        """The fusion of that name at this site, or ``None``."""
        return self.fusions.find(name)  # type: ignore[return-value]


class Holder(nn.Module):
    """All that graftwork keeps in one module of the user's model.

    Attributes:
        sites: The adapters and fusions at each site, by the site's place in the map.
        norms: The norms of adapters, by the place of the base's norm in the map.
        heads: The modules of each head, by their path (at the root only).
        shared: What the modules of an adapter or a fusion share at all sites (at the root only).
        tuners: What the layers of an adapter of peft share (at the root only).
    """

    def __init__(self) -> None:
        super().__init__()
        self.sites = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        self.heads = Named()
        self.shared = Named()
        self.tuners = Named()


def base_modules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that ``named_modules()`` yields, in the same order, without holders and what is in them."""
    seen: set[int] = set()
    waiting = [("", module)]
    while waiting:
        path, current = waiting.pop()
        if id(current) not in seen and not isinstance(current, Holder):
            seen.add(id(current))
            yield path, current
            start = f"{path}." if path else ""
            waiting += [
                (start + name, child) for name, child in reversed(current._modules.items()) if child is not None
            ]


def host_path(model: nn.Module, path: str) -> str:
    """The path of the module that keeps the holder: ``path`` or the nearest above that is no container.

    A Sequential would run the holder as one of its layers.
    """
    while path and isinstance(model.get_submodule(path), _CONTAINERS):
        path = path.rpartition(".")[0]
    if path:
        return path
    for name, module in model.named_modules():
        if not isinstance(module, _CONTAINERS):
            return name
    raise AttachError("the model is made of containers alone; there is no module to keep adapters in")


def holder_at(model: nn.Module, path: str) -> Holder:
    """The holder for the module at ``path``, made if it is not there yet."""
    host = model.get_submodule(host_path(model, path))
    found = host._modules.get(RESERVED)
    if found is None:
        found = Holder().train(host.training)
        host.add_module(RESERVED, found)
    if not isinstance(found, Holder):
        raise AttachError(f"the module {path!r} has a child {RESERVED!r} already, a {type(found).__name__}; rename it")
    return found


def holder_or_none(model: nn.Module, path: str) -> Holder | None:
    """The holder for the module at ``path``, ``None`` if it is not there yet."""
    found = model.get_submodule(host_path(model, path))._modules.get(RESERVED)
    return found if isinstance(found, Holder) else None


def drop_empty(model: nn.Module) -> None:
    """Remove the root's holder if it is empty."""
    root = holder_or_none(model, "")
    if root is not None and not any(map(len, (root.sites, root.norms, root.heads, root.shared, root.tuners))):
        del model.get_submodule(host_path(model, ""))._modules[RESERVED]


def reclaim(model: nn.Module) -> None:
    """Load the weights of adapters again that accelerate offloaded with the model."""
    if HOOK in model.__dict__:
        for module in list(model.modules()):
            if isinstance(module, Holder):
                settle(module)


def made_on(device: torch.device) -> torch.device:
    """The device on which new weights are made before they are moved: random numbers are drawn on the CPU."""
    return torch.device("meta" if device.type == "meta" else "cpu")


def device_at(model: nn.Module, path: str) -> torch.device:
    """The device of the module at ``path``, or where it has no weights (a dropout), of the nearest module around it."""
    while path and not _has_tensors(model.get_submodule(path)):
        path = path.rpartition(".")[0]
    return device_of(model.get_submodule(path))


def _has_tensors(module: nn.Module) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's own weights while it runs."""
    for kind in ("_parameters", "_buffers"):
        for part in module.modules():
            for tensor in getattr(part, kind).values():
                if tensor is not None:
                    return (running_device(part) if tensor.is_meta else None) or tensor.device
    return torch.device("cpu")
