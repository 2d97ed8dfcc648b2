"""Bases whose weights `torch.distributed.fsdp.fully_shard` has spread over ranks; adapters stay whole on every rank.

A weight of the base is whole while its module runs, and a shard (a DTensor) at any other time. `fully_shard` is told to ignore
the weights of adapters. It does not reduce the gradients of what it ignores, so that is done here.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from graftwork.errors import AttachError
from graftwork.weights.holder import Holder
from graftwork.weights.names import RESERVED
from graftwork.weights.samples import is_sharded

# The names of all modules with adapters, as accelerate's FSDP plugin takes them in `ignored_modules`.
ADAPTER_MODULES = rf"(.*\.)?{RESERVED}"


def ranks() -> int:
    """The number of processes that train together; 1 where torch.distributed is not initialized."""
    dist = torch.distributed
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def ranks_launched() -> int:
    """The same, also where a launcher has started several and none has joined the others yet."""
    return max(ranks(), int(os.environ.get("WORLD_SIZE", "1")))


def refuse_shards(module: nn.Module, what: str) -> None:
    """Refuse something that needs whole weights outside their module's call.

    Raises:
        AttachError: If a weight of the module is sharded.
    """
    part = sharded_part(module)
    if part is not None:
        raise AttachError(
            f"{what}: it needs whole weights of the base, and {part or type(module).__name__!r} is sharded over the ranks; do it "
            "before the model is sharded (before accelerator.prepare, or fully_shard), or on one process"
        )


def sharded_part(module: nn.Module) -> str | None:
    """The name of a sharded weight, else of a module that `fully_shard` took, else ``None``.

    A module's weights may be whole for now although it is sharded: after a forward pass, those of the outermost one are.
    """
    tensors = (name for name, p in module.named_parameters() if is_sharded(p))
    modules = (path for path, part in module.named_modules() if hasattr(part, "set_requires_gradient_sync"))
    return next(itertools.chain(tensors, modules), None)


def class_name(module: nn.Module) -> str:
    """The name of a module's class, without the class that `fully_shard` puts over it."""
    classes = type(module).__mro__
    return classes[2 if classes[1].__name__ == "FSDPModule" else 0].__name__


class Replicas:
    """The trained weights of adapters on a sharded base: equal on all ranks at first, and by averaged gradients ever after.

    The gradients are averaged once at the end of each backward pass, before anything clips them. Averaging what is equal on
    all ranks changes nothing, so gradients may be accumulated over several backward passes.
    """

    def __init__(self) -> None:
        self._hooks: dict[int, tuple[nn.Parameter, RemovableHandle]] = {}
        self._waiting = False  # whether the running backward pass will average the gradients at its end
        self._model: nn.Module | None = None
        self._unchecked: dict[str, nn.Parameter] = {}  # weights that may be sharded ones which are whole for now

    def __bool__(self) -> bool:
        """Whether gradients of any weights are averaged."""
        return bool(self._hooks)

    def follow(self, model: nn.Module, weights: Mapping[str, nn.Parameter]) -> None:
        """Average the gradients of these weights from now on, and of no others.

        All ranks call it with the same weights. If one is new, all adapters get the first rank's values.

        Args:
            model: The model that the adapters are on.
            weights: The trained weights by name, which are no shards.
        """
        self._waiting = False  # it still is after a backward pass that raised an error
        before, self._hooks = self._hooks, {}
        new = False
        for weight in weights.values():
            known = before.pop(id(weight), None)
            new |= known is None
            self._hooks[id(weight)] = known or (weight, weight.register_post_accumulate_grad_hook(self._note))
        for _, hook in before.values():
            hook.remove()
        self._model = model
        if new:
            self._unchecked = dict(weights)
            _broadcast(tensor for holder in _holders(model) for tensor in (*holder.parameters(), *holder.buffers()))
        elif self._hooks:  # the statistics of batch norms, which every rank computes from its own rows
            norms = (m for holder in _holders(model) for m in holder.modules() if isinstance(m, _Norm) and m.training)
            _broadcast(tensor for norm in norms for tensor in norm.buffers())

    def _note(self, weight: Tensor) -> None:
        """Hook of a weight whose gradient has just been computed."""
        if not self._waiting:
            self._waiting = True
            engine: Any = torch.autograd.Variable._execution_engine
            engine.queue_callback(self._average)

    def _average(self) -> None:
        self._waiting = False
        if self._unchecked and self._model is not None:
            here = set(map(id, self._model.parameters()))  # `fully_shard` has put the shards back by now
            name = next((name for name, p in self._unchecked.items() if id(p) not in here), None)
            if name is not None:
                raise sharded_too(name)
            self._unchecked = {}
        add_gradients([weight for weight, _ in self._hooks.values()], mean=True)

    def __reduce__(self) -> tuple[object, ...]:
        return Replicas, ()  # a copied model has weights without hooks


def sharded_too(name: str) -> AttachError:
    """The error for a trained weight that is sharded."""
    if RESERVED in name.split("."):
        return AttachError(
            f"the adapters are sharded with the base ({name!r}), and have to be whole on every rank: call "
            "graftwork.training.leave_adapters_out(plugin) before accelerator.prepare, or have fsdp_ignored_modules: "
            f"{ADAPTER_MODULES} in accelerate's configuration; without accelerate, give their weights to fully_shard as "
            "ignored_params"
        )
    return AttachError(
        f"{name!r} is trained, and sharded: on a sharded base only adapters, fusions and their heads can be trained, without "
        "weights of the base (base='frozen') and without modules of peft"
    )


def add_gradients(parameters: Sequence[Tensor], *, mean: bool = False, group: Any = None) -> None:
    """Add up the gradients of all ranks in place; a weight that has none on any rank keeps none.

    Args:
        parameters: The weights, in the same order on all ranks.
        mean: Whether they are divided by the number of ranks.
        group: The ranks; by default all.
    """
    if not parameters:
        return
    dist = torch.distributed
    given = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=parameters[0].device)
    dist.all_reduce(given, group=group)
    waiting = []
    for parameter, known in zip(parameters, given.tolist(), strict=True):
        if known:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if mean:
                parameter.grad /= dist.get_world_size(group)
            waiting.append(dist.all_reduce(parameter.grad, group=group, async_op=True))
    for one in waiting:
        one.wait()


_Norm = nn.modules.batchnorm._NormBase


def _holders(model: nn.Module) -> list[Holder]:
    return [module for module in model.modules() if isinstance(module, Holder)]


@torch.no_grad()
def _broadcast(tensors: Iterable[Tensor]) -> None:
    """Give all ranks the values of the first."""
    for tensor in tensors:
        value = tensor.detach().contiguous()
        torch.distributed.broadcast(value, 0)
        tensor.copy_(value)
