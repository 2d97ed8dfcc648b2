"""Where the trained weights live: a child called ``graftwork`` inside each block.

There they move, shard and checkpoint with the block.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from graftwork.compose import LearnedModule
from graftwork.errors import AttachError
from graftwork.methods import AdapterModule
from graftwork.weights.names import RESERVED, decode, encode, parted
from graftwork.weights.offload import HOOK, running_device, settle

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Named(nn.ModuleDict):
    """Modules by adapter name, any text being a name."""

    def put(self, name: str, module: nn.Module) -> None:
        """Add or replace one."""
        self[encode(name)] = module

    def find(self, name: str) -> nn.Module | None:
        """The module of that name, or ``None``."""
        return self._modules.get(encode(name))

    def serving(self, name: str) -> nn.Module | None:
        """The module of that name, of its adapter where it is a member's; or ``None``."""
        found = self.find(name)
        return self.find(parted(name)[0]) if found is None else found

    def drop(self, name: str) -> None:
        """Take one out, if it is there."""
        self._modules.pop(encode(name), None)

    def named(self) -> Iterator[tuple[str, nn.Module]]:
        """Name and module of each."""
        for key, module in self._modules.items():
            assert module is not None
            yield decode(key), module


class SiteAdapters(nn.Module):
    """The adapters and fusions at one site."""

    def __init__(self) -> None:
        super().__init__()
        self.adapters = Named()
        self.fusions = Named()

    def adapter(self, name: str) -> AdapterModule | None:
        """The adapter of that name here, what it computes for one where that is a member's, or ``None``."""
        found = self.adapters.find(name)
        if found is None:
            adapter, member = parted(name)
            whole: AdapterModule | None = self.adapters.find(adapter)  # type: ignore[assignment]
            return None if whole is None else whole.member(member)
        return found  # type: ignore[return-value]

    def fusion(self, name: str) -> LearnedModule | None:
        """The fusion of that name here, or ``None``."""
        return self.fusions.find(name)  # type: ignore[return-value]


class Holder(nn.Module):
    """All that graftwork keeps in one module of the user's model.

    Attributes:
        sites: The adapters of each site, by the site's place in the map.
        norms: For each norm (by its place in the map) the copies that adapters own.
        heads: For each name its head's modules, by their path (at the root only).
        shared: For each adapter and fusion what its modules at all sites have in common (at the root only).
        tuners: For each adapter of peft what its layers have in common (at the root only).
    """

    def __init__(self) -> None:
        super().__init__()
        self.sites = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        self.heads = Named()
        self.shared = Named()
        self.tuners = Named()


def base_modules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A module and all inside it by path, as its ``named_modules()`` gives them, without what we keep there."""
    seen: set[int] = set()
    waiting = [("", module)]
    while waiting:
        path, one = waiting.pop()
        if id(one) not in seen and not isinstance(one, Holder):
            seen.add(id(one))
            yield path, one
            start = f"{path}." if path else ""
            waiting += [(start + name, child) for name, child in reversed(one._modules.items()) if child is not None]


def host_path(model: nn.Module, path: str) -> str:
    """The nearest module from ``path`` upwards that can have a child of ours: no Sequential runs it by chance."""
    while True:
        module = model.get_submodule(path)
        if not isinstance(module, _CONTAINERS):
            return path
        if not path:
            break
        path = path.rpartition(".")[0]
    for name, module in model.named_modules():
        if not isinstance(module, _CONTAINERS):
            return name
    raise AttachError("the model is made of containers alone; there is no module to keep adapters in")


def holder_at(model: nn.Module, path: str) -> Holder:
    """The holder in the module at ``path`` or the nearest above it that can have one, made when first asked for."""
    host = model.get_submodule(host_path(model, path))
    found = host._modules.get(RESERVED)
    if found is None:
        found = Holder()
        found.train(host.training)
        host.add_module(RESERVED, found)
    if not isinstance(found, Holder):
        raise AttachError(f"the module {path!r} has a child {RESERVED!r} already, a {type(found).__name__}; rename it")
    return found


def holder_or_none(model: nn.Module, path: str) -> Holder | None:
    """The holder that `holder_at` would give, if it is there already."""
    found = model.get_submodule(host_path(model, path))._modules.get(RESERVED)
    return found if isinstance(found, Holder) else None


def drop_empty(model: nn.Module) -> None:
    """Take the root's holder out where it keeps nothing."""
    root = holder_or_none(model, "")
    if root is not None and not any(map(len, (root.sites, root.norms, root.heads, root.shared, root.tuners))):
        del model.get_submodule(host_path(model, ""))._modules[RESERVED]


def reclaim(model: nn.Module) -> None:
    """Take adapters back from accelerate, where a model was offloaded after they came to it."""
    if HOOK in model.__dict__:
        for module in list(model.modules()):
            if isinstance(module, Holder):
                settle(module)


def made_on(device: torch.device) -> torch.device:
    """Where new weights are made before they move to their device: random numbers are drawn on the CPU."""
    return torch.device("meta" if device.type == "meta" else "cpu")


def device_at(model: nn.Module, path: str) -> torch.device:
    """The device of the module at ``path``; of the nearest around it where that has no weights (a dropout)."""
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
