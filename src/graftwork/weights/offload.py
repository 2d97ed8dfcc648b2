"""A base whose weights accelerate keeps on the CPU or the disk: on the meta device in the model, except while a module runs.

What belongs to adapters is never offloaded: it is small, and computed with outside the modules that it lies in. It is made on
the device that a module runs on; where a model is offloaded after adapters came to it, theirs are taken back. A copied module
(a head, a norm) is given its weights.
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
    """The device that the module's own weights are moved to while it runs; ``None`` where nothing offloads them."""
    hook = _offloading(module)
    return None if hook is None else torch.device(hook.execution_device)


def resident(module: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """A tensor of a module with its values, wherever these are kept."""
    hook = _offloading(module) if tensor.is_meta else None
    return tensor if hook is None or name not in hook.weights_map else hook.weights_map[name]


def is_kept(module: nn.Module, tensor: Tensor) -> bool:
    """Whether the values of a tensor of a module are kept elsewhere."""
    return tensor.is_meta and _offloading(module) is not None


def is_offloaded(model: nn.Module) -> bool:
    """Whether weights of a model are offloaded."""
    return HOOK in model.__dict__ and any(_offloading(module) is not None for module in model.modules())


def settled(module: nn.Module) -> nn.Module:
    """The module itself, or where it is offloaded a copy that is not."""
    hooks = {id(hook): hook for part in module.modules() if (hook := part.__dict__.get(HOOK)) is not None}
    if not hooks:
        return module
    made = copy.deepcopy(module, dict(hooks))  # the hooks as they are: they know the weights of the whole model
    settle(made)
    return made


def settle(module: nn.Module) -> None:
    """Give a module its weights, on the device that it runs on, and take accelerate's hooks off it."""
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
        if (
            part.__dict__.pop("forward", None) is not None
            and getattr(forward, "__func__", None) is not type(part).forward
        ):
            part.forward = forward


def refuse_trained(model: nn.Module, what: str) -> None:
    """Refuse to change weights that accelerate moves in and out: what is written is lost.

    Raises:
        AttachError: If the model is offloaded.
    """
    if is_offloaded(model):
        raise AttachError(
            f"{what}: accelerate offloads this {type(model).__name__}, and what changes in its weights would be lost after "
            "the next call; do it on a model that is not offloaded"
        )


def _offloading(module: nn.Module) -> Any:
    """The hook that keeps the module's own weights elsewhere, or ``None``."""
    for hook in _hooks(module.__dict__.get(HOOK)):
        if getattr(hook, "offload", False) and hook.execution_device is not None and hook.weights_map is not None:
            return hook
    return None


def _hooks(hook: Any) -> Iterator[Any]:
    """A hook, or those in sequence that it stands for."""
    if hook is not None:
        yield hook
        for inner in getattr(hook, "hooks", ()):
            yield from _hooks(inner)
