"""Putting hooks on the modules of a map of sites, removing them, and moving them when peft wraps modules."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from graftwork.errors import SiteError
from graftwork.forward.call_inputs import parameter_names
from graftwork.forward.frame_hooks import enter, leave
from graftwork.forward.hooks import after, before
from graftwork.forward.model_with_heads import ModelWithHeads
from graftwork.forward.plan import Plan
from graftwork.forward.ports import ENTRY, PORTS, TRUNK, Entry, Ports, TrunkBlock, add_port, uninstall
from graftwork.forward.runtime import Runtime
from graftwork.forward.shared_trunk import narrow, widen
from graftwork.forward.work import work_of
from graftwork.methods.layers.contract import HIDDEN
from graftwork.sites import Site, SiteMap, Tap
from graftwork.weights.holder import Holder
from graftwork.weights.names import RESERVED

Homes = list[tuple[nn.Module, str, nn.Module]]
Hook = Callable[..., Any]


def wire(model: nn.Module, sites: SiteMap, heads: tuple[str, ...], runtime: Runtime) -> Homes:
    """Put ports on a model's modules, and hooks on those that open a frame; returns each module with ports, its parent and name.

    The others get their hooks from `hook`.
    """
    ports: dict[str, Ports] = {}
    norm_index = {path: n for n, path in enumerate(sites.norms)}

    def at(path: str, site: Site | None = None) -> Ports:
        if path not in ports:
            block = next((n for n, block in enumerate(sites.blocks) if f"{path}.".startswith(f"{block}.")), -1)
            ports[path] = Ports(runtime, len(ports), path, parameter_names(_module(model, path, site)), block)
        return ports[path]

    for index, site in enumerate(sites):
        for role in ("residual", "input", "layer_input"):
            tap: Tap | None = getattr(site, role)
            if tap is not None:
                add_port(at(tap.module, site), tap, index, role)
        for role, tap in hidden_taps(sites, site).items():
            add_port(at(tap.module, site), tap, index, role)
        for is_stream, tap in ((False, site.output), (True, stream_tap(site))):
            target = at(tap.module, site)
            if tap.end == "output":
                target.writes.append((tap.call, tap.slot, index, is_stream))
            elif tap.slot is not None:
                target.entries.append((tap.call, tap.slot, index, is_stream))
            _add_site(model, target, index, site, norm_index)
    for path, n in norm_index.items():
        at(path).norm = n
    for path in heads:
        at(path).head = path
    blocks = {site.block: site.extra["within"] for site in sites if "within" in site.extra}
    for block, within in blocks.items():
        at(within).restarts.add(at(block).number)
    for path, port in ports.items():
        around = next((block for block in blocks if f"{path}.".startswith(f"{block}.")), path)
        if any(entry[0] for entry in [*port.inputs, *port.outputs, *port.writes, *port.entries]):
            port.counter = ports[around].number
            ports[around].counted = True
    homes: Homes = []
    for path, port in ports.items():
        module = model.get_submodule(path)
        if not path:
            install(module, port)
            continue
        module.__dict__[PORTS] = port
        parent, _, name = path.rpartition(".")
        homes.append((model.get_submodule(parent), name, module))
    for path in entry_paths(model, sites):
        module = model.get_submodule(path)
        names = parameter_names(module)
        if isinstance(module, ModelWithHeads):  # it passes all but the labels on by name
            names += parameter_names(module.base)
        module.__dict__[ENTRY] = Entry(runtime, names)
        module.register_forward_pre_hook(enter, with_kwargs=True, prepend=True)
        module.register_forward_hook(leave, with_kwargs=True, always_call=True)
    return homes


def wire_projection(model: nn.Module, sites: SiteMap, index: int, runtime: Runtime, homes: Homes) -> None:
    """Put hooks on a projection, which has none until an adapter is put there; they act in every call of it.

    Args:
        model: The model.
        sites: The map of sites.
        index: The place of the projection there.
        runtime: The state that the model's hooks share.
        homes: Where modules with hooks are at home; those that get hooks here are added.
    """
    site = sites.places[index]
    block = sites.blocks.index(site.block) if site.block in sites.blocks else -1

    def at(path: str) -> Ports:
        module = _module(model, path, site)
        found: Ports | None = module.__dict__.get(PORTS)
        if found is not None:
            return found
        ports = Ports(runtime, -1, path, parameter_names(module), block)  # its calls are never counted
        module.__dict__[PORTS] = ports
        parent, _, name = path.rpartition(".")
        homes.append((model.get_submodule(parent), name, module))
        return ports

    ports = at(site.output.module)
    ports.sites[index] = site
    ports.writes.insert(0, (None, None, index, False))  # before what reads the module's output as a branch's
    for role in ("input", "layer_input"):
        tap: Tap | None = getattr(site, role)
        if tap is not None:
            add_port(at(tap.module), tap, index, role, every_call=True)


def unwire_projection(model: nn.Module, site: Site, index: int, homes: Homes) -> None:
    """Take the hooks off a projection that has no adapter any more."""
    for path in {tap.module for tap in (site.output, site.input, site.layer_input) if tap is not None}:
        module = model.get_submodule(path)
        ports: Ports = module.__dict__[PORTS]
        ports.inputs = [entry for entry in ports.inputs if entry[2] != index]
        ports.outputs = [entry for entry in ports.outputs if entry[2] != index]
        ports.writes = [entry for entry in ports.writes if entry[2] != index]
        ports.sites.pop(index, None)
        if ports.idle:
            uninstall(module)
            homes[:] = [home for home in homes if home[2] is not module]


def hidden_taps(sites: SiteMap, site: Site) -> dict[str, Tap]:
    """The taps where the stream enters each layer, for the site of kind ``layer`` at the end of a stack; else none."""
    layers = sites.layers(site.stack) if site.kind == "layer" else {}
    if not layers or site.layer != max(layers):
        return {}
    first = {n: next((s.layer_input for s in layers[n] if s.layer_input is not None), None) for n in layers}
    return {f"{HIDDEN}{n}": tap for n, tap in first.items() if tap is not None}


def wire_copy(original: nn.Module, like: nn.Module) -> None:
    """Give a copied head the sites inside the original, such as the projection to the vocabulary."""
    for path, module in original.named_modules():
        ports: Ports | None = module.__dict__.get(PORTS)
        if ports is not None and (ports.entries or ports.writes):
            copied = copy.copy(ports)
            copied.norm, copied.head, copied.inputs, copied.outputs = None, None, [], []
            install(like.get_submodule(path), copied)


def ports_of(model: nn.Module, homes: Homes) -> list[Ports]:
    """Return the ports of all modules that have some."""
    found = [module.__dict__.get(PORTS) for module in (model, *(module for _, _, module in homes))]
    return [ports for ports in found if ports is not None]


def hook(model: nn.Module, homes: Homes, plan: Plan, runtime: Runtime) -> None:
    """Put hooks on the modules that have work under a plan, where they have none yet: idle ones cost time in every call."""
    new = False
    for _, _, module in homes:
        ports: Ports | None = module.__dict__.get(PORTS)
        work = None if ports is None else work_of(ports, plan)
        if work is not None:
            new |= _put_hooks(module, before if work.before else None, after if work.after else None)
    for path in plan.trunk:
        module = model.get_submodule(path)
        if TRUNK not in module.__dict__:
            module.__dict__[TRUNK] = TrunkBlock(runtime, path)
            new |= _put_hooks(module, narrow, widen)
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    if new and dynamo is not None and getattr(dynamo, "cached_backends", True):  # something is compiled already,
        torch.compiler.reset()  # and compiled code does not look for hooks that come later


def install(module: nn.Module, ports: Ports) -> None:
    """Put ports and both hooks on a module."""
    module.__dict__[PORTS] = ports
    _put_hooks(module, before, after)


def _put_hooks(module: nn.Module, pre: Hook | None, post: Hook | None) -> bool:
    """Put hooks on a module that it has not got; ours sees the output first, so that others see what adapters added.

    Done as torch does, but in an order in which another thread may run the module meanwhile: a hook is there last.

    Returns:
        Whether there was one to put.
    """
    new = False
    if pre is not None and pre not in module._forward_pre_hooks.values():
        new, key = True, RemovableHandle(module._forward_pre_hooks).id
        module._forward_pre_hooks_with_kwargs[key] = True
        module._forward_pre_hooks[key] = pre
    if post is not None and post not in module._forward_hooks.values():
        new, key = True, RemovableHandle(module._forward_hooks).id
        module._forward_hooks_with_kwargs[key] = True
        module._forward_hooks[key] = post
        module._forward_hooks.move_to_end(key, last=False)  # type: ignore[attr-defined]
    return new


def stream_tap(site: Site) -> Tap:
    """The tap where adapters write into the stream at a site: after its norm, at the block's output, or at the branch."""
    if site.norm is not None and site.kind != "layer":
        return Tap(site.norm, "output", None, site.output.call)
    return site.output


def _add_site(model: nn.Module, ports: Ports, index: int, site: Site, norm_index: dict[str, int]) -> None:
    ports.sites[index] = site
    if isinstance(site.scale, str):
        try:
            ports.scales[index] = model.get_parameter(site.scale)
        except AttributeError:
            ports.scales[index] = model.get_buffer(site.scale)
    elif site.scale is not None:
        ports.scales[index] = site.scale
    if site.norm is not None:
        ports.norm_modules[index] = _module(model, site.norm, site)
        if site.norm in norm_index:
            ports.norm_index[index] = norm_index[site.norm]


def _module(model: nn.Module, path: str, site: Site | None) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        where = f"site {site.key}" if site is not None else "the map of sites"
        kind = type(model).__name__
        raise SiteError(f"{where} names the module {path!r}, which {kind} does not have: {error}") from error


def entry_paths(model: nn.Module, sites: SiteMap) -> list[str]:
    """The paths of the model and of every module around its blocks: the one that is called first opens the frame."""
    paths = {""}
    for site in sites:
        path = site.block if site.block and site.stack else site.output.module
        while path:
            path = path.rpartition(".")[0]
            paths.add(path)
    inside = {site.block for site in sites if site.block}
    outer = [p for p in paths if not any(p == b or p.startswith(f"{b}.") for b in inside)]
    return sorted(p for p in outer if not isinstance(model.get_submodule(p), (nn.ModuleList, nn.ModuleDict)))


def rehome(model: nn.Module, homes: Homes) -> bool:
    """Move ports from modules that were replaced since (peft wraps them) to what replaces them; returns whether any was."""
    moved = False
    for n, (parent, name, module) in enumerate(homes):
        now = parent._modules.get(name)
        ports = module.__dict__.get(PORTS)
        if now is module or now is None or ports is None or PORTS in now.__dict__:
            continue
        uninstall(module)
        uninstall(now)  # torch.ao copies hooks to the module that it puts there, without their keywords
        install(now, ports)
        homes[n] = (parent, name, now)
        moved = True
    for _, _, module in homes if moved else ():
        ports = module.__dict__.get(PORTS)
        if ports is not None:
            for index in ports.norm_modules:
                ports.norm_modules[index] = model.get_submodule(str(ports.sites[index].norm))
    return moved


def unwire(model: nn.Module) -> None:
    """Remove every hook and every module of graftwork from a model."""
    for module in list(model.modules()):
        if any(name in module.__dict__ for name in (PORTS, ENTRY, TRUNK)):
            uninstall(module)
        if isinstance(module._modules.get(RESERVED), Holder):
            del module._modules[RESERVED]


def attached_part(model: nn.Module) -> str | None:
    """The path of the first module that belongs to an attached model, ``None`` if there is none; copied parts do not count."""
    for path, module in model.named_modules():
        for hooked in (module.__dict__.get(PORTS), module.__dict__.get(ENTRY)):
            if hooked is not None and hooked.runtime.handle is not None:
                return path
    return None
