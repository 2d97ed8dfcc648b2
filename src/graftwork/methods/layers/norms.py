"""Norms of an adapter's own: modules that replace a norm of the base while the adapter is active.

`AdapterConfig.norm_for` returns one of two: a copy of the base's norm, whose weights and statistics are trained with the
adapter (Houlsby et al.), or a module that the method makes. Both take and return what the norm takes and returns; a
`NormModule` may take inputs of the model's forward in addition: a latent, a class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class NormPlace:
    """A norm of the base, and the inputs of the model.

    Attributes:
        path: The norm's dotted path in the base model.
        inputs: The names of the inputs of the model's forward, in order.
        required: Those of them without a default, except the data that a model of transformers declares.
        open: Whether the forward takes inputs of any name (``**kwargs``).
    """

    path: str
    inputs: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    open: bool = False


class NormModule(nn.Module):
    """A norm that a method makes.

    Attributes:
        inputs: Names of the inputs of the model's forward that `forward` is given after the values.
        shared: What `AdapterConfig.shared` returned, or ``None``; referred to and no child, see `AdapterModule`.
    """

    shared: nn.Module | None

    def __init__(self, inputs: Sequence[str] = (), *, shared: nn.Module | None = None) -> None:
        super().__init__()
        self.__dict__["shared"] = shared
        self.inputs = tuple(inputs)

    def forward(self, values: Tensor, *inputs: Tensor) -> Tensor:
        """Return the normed values, same shape.

        Args:
            values: The norm's input; its first dimension is the batch, or a multiple of it (windows of an image).
            inputs: The tensors of `inputs`, a row for each row of the batch.
        """
        raise NotImplementedError


def run_norm(norm: nn.Module, values: Tensor, *inputs: Tensor) -> Tensor:
    """The output of a norm, without its hooks, computed in the dtype of the values.

    Running statistics keep their own dtype. torch itself computes a batch norm in float32 on narrower values.
    """
    tensors = [*norm.named_parameters(), *norm.named_buffers()]
    apart = {name: t for name, t in tensors if t.is_floating_point() and t.dtype != values.dtype}
    if not apart or torch.is_autocast_enabled(values.device.type) or _torch_mixes(norm, apart, values):
        return norm.forward(values, *inputs)
    near = {name: t.to(values.dtype) for name, t in apart.items()}
    output: Tensor = torch.func.functional_call(norm, near, (values, *inputs))
    if norm.training:
        with torch.no_grad():
            for name, statistic in norm.named_buffers():
                if name in near:
                    statistic.copy_(near[name])
    return output


def _torch_mixes(norm: nn.Module, apart: dict[str, Tensor], values: Tensor) -> bool:
    """Whether torch computes the norm on narrower values with weights in float32."""
    is_batch_norm = isinstance(norm, nn.modules.batchnorm._BatchNorm)
    return is_batch_norm and values.element_size() < 4 and all(t.dtype is torch.float32 for t in apart.values())
