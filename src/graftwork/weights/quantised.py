"""Linear layers that are quantised, by whatever library: heads of them are copied as floats, and gradients have to pass them."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from graftwork.errors import AttachError
from graftwork.weights.holder import base_modules
from graftwork.weights.samples import has_values


def unquantised(module: nn.Module) -> nn.Module:
    """The module itself, or where linear layers in it are quantised a copy with plain ones that compute the same."""
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
    """Whether it is a linear layer whose weight is not one of plain floats, whichever library keeps it so."""
    if not isinstance(getattr(module, "in_features", None), int) or not isinstance(
        getattr(module, "out_features", None), int
    ):
        return False
    weight = getattr(module, "weight", None)
    return not (isinstance(weight, Tensor) and (has_values(weight) or weight.is_meta))


def refuse_without_gradients(model: nn.Module, what: str) -> None:
    """Refuse to train adapters in a model whose quantised layers give no gradients back: they would learn by a part of them.

    One layer of each class is asked.

    Raises:
        AttachError: Naming the layer.
    """
    asked: set[type] = set()
    for path, module in base_modules(model):
        if type(module) in asked or not is_quantised_linear(module):
            continue
        asked.add(type(module))
        if not _gives_gradients(module):
            kind = f"{type(module).__module__}.{type(module).__name__}"
            raise AttachError(
                f"{what}: the quantised layers of this {type(model).__name__} ({path!r}, a {kind}) give no gradients back: they "
                "are for inference only, or were packed for it when the model last ran in eval mode, and adapters before them "
                "would learn wrongly; train on the plain model, or on one quantised to be trained, and load the adapters here"
            )


def _gives_gradients(linear: nn.Module) -> bool:
    """Whether a gradient comes back through a layer."""
    device, dtype = _near(linear)
    x = torch.ones(2, linear.in_features, device=device, dtype=dtype, requires_grad=True)  # type: ignore[call-overload]  # an int
    try:
        with torch.enable_grad():
            y = linear.forward(x.clone())  # past the hooks: no call of the model
    except RuntimeError:  # packed for inference, some write into what has a gradient
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that there is no gradient, as we do
        return y.requires_grad and torch.autograd.grad(y.sum(), x, allow_unused=True)[0] is not None


def _near(linear: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where a layer computes, and in what."""
    tensors = (*linear.parameters(), *linear.buffers())
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
    return (tensors[0].device if tensors else torch.device("cpu")), dtype


@torch.no_grad()
def _plain(linear: nn.Module) -> nn.Linear:
    """A float linear layer that computes what a quantised one does: its columns are what it makes of unit vectors."""
    width: int = linear.in_features  # type: ignore[assignment]  # asked for before
    device, dtype = _near(linear)
    constant = linear.forward(torch.zeros(1, width, device=device, dtype=dtype))  # past the hooks: no call of the model
    columns = linear.forward(torch.eye(width, device=device, dtype=dtype)) - constant
    bias = linear.bias() if callable(linear.bias) else linear.bias
    made = nn.Linear(width, linear.out_features, bias=bias is not None, device=device)  # type: ignore[arg-type]  # an int
    made.weight.copy_(columns.t())
    if bias is not None:
        made.bias.copy_(constant[0])
    return made.train(linear.training)
