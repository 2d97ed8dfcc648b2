"""Heads of a quantised model: what an adapter trains is a float copy of them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from graftwork.attach.samples import has_values


def unquantised(module: nn.Module) -> nn.Module:
    """The module itself, or where linear layers in it are quantised a copy with plain ones that compute the same."""
    found = [path for path, part in module.named_modules() if _is_quantised(part)]
    if not found:
        return module
    if found == [""]:
        return _plain(module)
    made = copy.deepcopy(module)
    for path in found:
        parent, _, name = path.rpartition(".")
        setattr(made.get_submodule(parent), name, _plain(module.get_submodule(path)))
    return made


def _is_quantised(module: nn.Module) -> bool:
    """Whether it is a linear layer whose weight is not one of plain floats, whichever library keeps it so."""
    if not isinstance(getattr(module, "in_features", None), int) or not isinstance(
        getattr(module, "out_features", None), int
    ):
        return False
    weight = getattr(module, "weight", None)
    return not (isinstance(weight, Tensor) and (has_values(weight) or weight.is_meta))


@torch.no_grad()
def _plain(linear: nn.Module) -> nn.Linear:
    """A float linear layer that computes what a quantised one does: its columns are what it makes of unit vectors."""
    width: int = linear.in_features  # type: ignore[assignment]  # asked for before
    tensors = (*linear.parameters(), *linear.buffers())
    device = tensors[0].device if tensors else torch.device("cpu")
    dtype = next((p.dtype for p in linear.parameters() if p.is_floating_point()), torch.float32)
    constant = linear.forward(torch.zeros(1, width, device=device, dtype=dtype))  # past the hooks: no call of the model
    columns = linear.forward(torch.eye(width, device=device, dtype=dtype)) - constant
    bias = linear.bias() if callable(linear.bias) else linear.bias
    made = nn.Linear(width, linear.out_features, bias=bias is not None, device=device)  # type: ignore[arg-type]  # an int
    made.weight.copy_(columns.t())
    if bias is not None:
        made.bias.copy_(constant[0])
    return made.train(linear.training)
