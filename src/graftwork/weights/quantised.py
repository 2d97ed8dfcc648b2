"""Quantised linear layers of any library: heads made of them are copied as floats, and gradients must pass through them."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from graftwork.errors import AttachError
from graftwork.weights.holder import base_modules
from graftwork.weights.samples import has_values


def unquantised(module: nn.Module) -> nn.Module:
    """The module itself, or a copy with float linear layers that compute the same if some in it are quantised."""
    found = [path for path, part in module.named_modules() if is_quantised_linear(part)]
    if not found:
        return module
    if found == [""]:
        return _plain(module)
    made = copy.deepcopy(module)
    for path in found:
        parent, _, name = path.rpartition(".")
        setattr(made.get_submodule(parent), name, _plain(module.get_submodule(path)))
    return made


def is_quantised_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer whose weight is not a plain float tensor."""
    if not all(isinstance(getattr(module, width, None), int) for width in ("in_features", "out_features")):
        return False
    weight = getattr(module, "weight", None)
    return not (isinstance(weight, Tensor) and (has_values(weight) or weight.is_meta))


def refuse_without_gradients(model: nn.Module, what: str) -> None:
    """Refuse to train adapters in a model whose quantised layers return no gradients; one layer of each class is tried."""
    tried: set[type] = set()
    for path, module in base_modules(model):
        if type(module) in tried or not is_quantised_linear(module):
            continue
        tried.add(type(module))
        if not _gives_gradients(module):
            kind = f"{type(module).__module__}.{type(module).__name__}"
            raise AttachError(
                f"{what}: the quantised layers of this {type(model).__name__} ({path!r}, a {kind}) give no gradients back: they "
                "are for inference only, or were packed for it when the model last ran in eval mode, and adapters before them "
                "would be trained wrongly; train on the plain model, or on one quantised to be trained, and load the adapters here"
            )


def _gives_gradients(linear: nn.Module) -> bool:
    """Whether gradients pass through a layer."""
    device, dtype = _device_and_dtype(linear)
    x = torch.ones(2, linear.in_features, device=device, dtype=dtype, requires_grad=True)  # type: ignore[call-overload]  # an int
    try:
        with torch.enable_grad():
            y = linear.forward(x.clone())  # without the hooks: this is no call of the model
    except RuntimeError:  # some that are packed for inference write into their input
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own warning that there is no gradient
        return y.requires_grad and torch.autograd.grad(y.sum(), x, allow_unused=True)[0] is not None


def _device_and_dtype(linear: nn.Module) -> tuple[torch.device, torch.dtype]:
    """The device and the dtype that a layer computes in."""
    tensors = (*linear.parameters(), *linear.buffers())
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
    return (tensors[0].device if tensors else torch.device("cpu")), dtype


@torch.no_grad()
def _plain(linear: nn.Module) -> nn.Linear:
    """A float linear layer that computes the same as a quantised one, whose columns are its outputs for unit vectors."""
    width: int = linear.in_features  # type: ignore[assignment]  # an int, as `is_quantised_linear` has checked
    device, dtype = _device_and_dtype(linear)
    constant = linear.forward(torch.zeros(1, width, device=device, dtype=dtype))  # without the hooks
    columns = linear.forward(torch.eye(width, device=device, dtype=dtype)) - constant
    bias = linear.bias() if callable(linear.bias) else linear.bias
    made = nn.Linear(width, linear.out_features, bias=bias is not None, device=device)  # type: ignore[arg-type]  # an int
    made.weight.copy_(columns.t())
    if bias is not None:
        made.bias.copy_(constant[0])
    return made.train(linear.training)
