"""Copies of a model's own head for the weights that another library's file has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from graftwork.attach import Handle, Labels, OwnHead, building
from graftwork.attach.model_head import resized
from graftwork.checkpoint.tensors import HEAD, Tensors, gather


def of_own_head(handle: Handle, tensors: Tensors) -> Tensors:
    """The tensors that are of the model's own head, by our names; theirs begin with the path of a module of it."""
    return {
        f"{HEAD}{path}/{name.removeprefix(f'{path}.')}": tensor
        for path in handle.head_paths
        for name, tensor in tensors.items()
        if name.startswith(f"{path}.")
    }


def fitting_head(handle: Handle, given: Tensors, labels: Callable[[], Labels]) -> tuple[OwnHead, Tensors]:
    """A copy of the model's own head, not filled yet, and its tensors; with other labels where those of a file need them.

    Args:
        handle: The model.
        given: The file's tensors, by our names.
        labels: Makes the labels that the file has.
    """
    modules = building.copy_head(handle.model, {path: handle.model.get_submodule(path) for path in handle.head_paths})
    wanted, own = _named(modules), handle.own_labels
    if any(name in given and given[name].shape != tensor.shape for name, tensor in wanted.items()):
        own = labels()
        resized(handle.model, modules, own)
        wanted = _named(modules)
    return OwnHead(modules, own), wanted


def _named(modules: Mapping[str, nn.Module]) -> Tensors:
    return gather({f"{HEAD}{path}": module for path, module in modules.items()})
