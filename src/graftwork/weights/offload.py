"""Bases that accelerate offloads: their weights are on the CPU or the disk, and on the meta device while a module does not run.

The weights of adapters are never offloaded: they are small, and used outside the modules that they are in. They are made on
the device that a module runs on, and loaded again if the model is offloaded later. A copied module (a head, a norm) gets its
weights too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.errors import AttachError

HOOK = "_hf_hook"


def running_device(module: nn.Module) -> torch.device | None:
    """The device that the module's own weights are moved to while it runs, ``None`` if they are not offloaded."""
    hook = _offloading(module)
    return None if hook is None else torch.device(hook.execution_device)


def resident(module: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """A tensor of a module with its values, also where they are offloaded."""
    hook = _offloading(module) if tensor.is_meta else None
    return tensor if hook is None or name not in hook.weights_map else hook.weights_map[name]


def is_kept(module: nn.Module, tensor: Tensor) -> bool:
    """Whether the values of a tensor of a module are offloaded."""
    return tensor.is_meta and _offloading(module) is not None


def settled(module: nn.Module) -> nn.Module:
    """The module itself, or a copy with its weights if it is offloaded."""
    hooks = {id(hook): hook for part in module.modules() if (hook := part.__dict__.get(HOOK)) is not None}
    if not hooks:
        return module
    made = copy.deepcopy(module, dict(hooks))  # the hooks are not copied: they hold the weights of the whole model
    settle(made)
    return made


def settle(module: nn.Module) -> None:
    """Load the weights of a module on the device that it runs on, and remove accelerate's hooks."""
    for part in module.modules():
        if HOOK not in part.__dict__:
            continue
        device = running_device(part)
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is None or not tensor.is_meta or device is None:
                    continue
                value = resident(part, name, tensor).detach().to(device, copy=True)
                if isinstance(tensor, nn.Parameter):
                    value = nn.Parameter(value, tensor.requires_grad)
                tensors[name] = value  # type: ignore[assignment]  # a parameter where there was one
        del part.__dict__[HOOK]
        forward = part.__dict__.pop("_old_forward", None)
        was_replaced = part.__dict__.pop("forward", None) is not None
        if was_replaced and getattr(forward, "__func__", None) is not type(part).forward:
            part.forward = forward


def refuse_trained(model: nn.Module, what: str) -> None:
    """Refuse to change weights of a model that is offloaded: the changes would be lost."""
    if HOOK in model.__dict__ and any(_offloading(module) is not None for module in model.modules()):
        raise AttachError(
            f"{what}: accelerate offloads this {type(model).__name__}, and what changes in its weights would be lost after "
            "the next call; do it on a model that is not offloaded"
        )


def _offloading(module: nn.Module) -> Any:
    """The hook that offloads the module's own weights, or ``None``."""
    for hook in _hooks(module.__dict__.get(HOOK)):
        if getattr(hook, "offload", False) and hook.execution_device is not None and hook.weights_map is not None:
            return hook
    return None


def _hooks(hook: Any) -> Iterator[Any]:
    """A hook of accelerate, and those inside it if it is a sequence of hooks."""
    if hook is not None:
        yield hook
        for inner in getattr(hook, "hooks", ()):
            yield from _hooks(inner)
