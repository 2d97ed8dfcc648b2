"""The weights that another library put into the model for one adapter, under names that are the same in every model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn


class Weights(nn.Module):
    """Tensors of other modules, seen as one module: what learns are its parameters, what is fixed its buffers.

    It is part of no model and keeps nothing: it is made when asked for, so that it has the tensors that are there now.
    """

    def __init__(self, tensors: Mapping[str, Tensor], learning: Iterable[str]) -> None:
        super().__init__()
        learns = set(learning)
        for name, tensor in tensors.items():
            (self._parameters if name in learns else self._buffers)[name] = tensor  # type: ignore[assignment]


def together(parts: Mapping[str, nn.Module]) -> nn.Module:
    """Modules as the children of one, which is part of no model either."""
    whole = nn.Module()
    whole._modules.update(parts)
    return whole


class Spot:
    """Where one tensor is: a module and the name it has there. The tensor itself may be replaced by a move."""

    def __init__(self, owner: nn.Module, name: str) -> None:
        self.owner = owner
        self.name = name

    @property
    def tensor(self) -> Tensor:
        """The tensor that is there now."""
        found: Tensor = getattr(self.owner, self.name)
        return found


def spots(module: nn.Module, path: str, key: str, known: set[int]) -> dict[str, Spot]:
    """Every tensor in a module that is not known yet, by its path without ``key``, those that are not saved left out.

    Args:
        module: The module.
        path: Its path in the model.
        key: The part of a path that is the adapter's name.
        known: Modules and tensors to leave out, by identity; what is found is added.
    """
    found: dict[str, Spot] = {}
    for inner, owner in module.named_modules():
        if id(owner) in known:
            continue
        known.add(id(owner))
        for name, tensor in (*owner._parameters.items(), *owner._buffers.items()):
            if tensor is None or id(tensor) in known or name in owner._non_persistent_buffers_set:
                continue
            known.add(id(tensor))
            parts = f"{path}.{inner}.{name}".split(".")
            found[".".join(part for part in parts if part not in ("", key))] = Spot(owner, name)
    return found
