"""Norms of an adapter's own: modules that stand in for a norm of the base while the adapter is active.

There are two sources, `AdapterConfig.norm_for` says which: a copy of the base's norm, whose weights and statistics the adapter
trains apart (Houlsby et al.), or a module that the method makes. A stand-in takes what the norm takes and gives what the norm
gives; one that is a `NormModule` may ask for inputs of the model's forward beside that: a latent, a class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class NormPlace:
    """What a configuration knows of a norm of the base.

    Attributes:
        path: Its dotted path in the base model.
        inputs: The names of the inputs of the model's forward, in order.
        required: Those of them that have no default, but for what a model of transformers declares to be its data.
        open: Whether the forward takes inputs of any name (``**kwargs``).
    """

    path: str
    inputs: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    open: bool = False


class NormModule(nn.Module):
    """A norm that a method makes.

    Attributes:
        inputs: Names of the inputs of the model's forward that `forward` is given behind the values.
        shared: What `AdapterConfig.shared` made, or ``None``; referred to and no child, see `AdapterModule`.
    """

    shared: nn.Module | None

    def __init__(self, inputs: Sequence[str] = (), *, shared: nn.Module | None = None) -> None:
        super().__init__()
        self.__dict__["shared"] = shared
        self.inputs = tuple(inputs)

    def forward(self, values: Tensor, *inputs: Tensor) -> Tensor:
        """The normed values, same shape.

        Args:
            values: What the norm is given; its first dimension is the batch, or a multiple of it (windows of an image).
            inputs: The inputs that it asked for, a row for each row of the batch in hand.
        """
        raise NotImplementedError


def run_norm(norm: nn.Module, values: Tensor, *inputs: Tensor) -> Tensor:
    """The norm without its hooks, computed in the dtype of the values.

    Statistics that move keep their own dtype. torch takes those of a batch norm in float32 beside narrower values.
    """
    tensors = [*norm.named_parameters(), *norm.named_buffers()]
    apart = {name: t for name, t in tensors if t.is_floating_point() and t.dtype != values.dtype}
    if not apart or torch.is_autocast_enabled(values.device.type) or _torch_mixes(norm, apart, values):
        return norm.forward(values, *inputs)  # type: ignore[no-any-return]
    near = {name: t.to(values.dtype) for name, t in apart.items()}
    output: Tensor = torch.func.functional_call(norm, near, (values, *inputs))
    if norm.training:
        with torch.no_grad():
            for name, statistic in norm.named_buffers():
                if name in near:
                    statistic.copy_(near[name])
    return output


def _torch_mixes(norm: nn.Module, apart: dict[str, Tensor], values: Tensor) -> bool:
    is_batch_norm = isinstance(norm, nn.modules.batchnorm._BatchNorm)
    return is_batch_norm and values.element_size() < 4 and all(t.dtype is torch.float32 for t in apart.values())
