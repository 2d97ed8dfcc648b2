"""The weights that another library put into the model for one adapter, by names that are the same in every model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor, nn


@dataclasses.dataclass
class Spot:
    """Where one tensor is: a module and the name it has there. The tensor itself may be replaced by a move."""

    owner: nn.Module
    name: str

    @property
    def tensor(self) -> Tensor:
        """The tensor that is there now."""
        found: Tensor = getattr(self.owner, self.name)
        return found


class Injected:
    """One adapter that another library made: its own module, and where its tensors are, by their name in a file."""

    def __init__(self, tuner: nn.Module, found: Mapping[str, Spot]) -> None:
        self.tuner = tuner
        self.spots = found
        self.trained = {name for name, spot in found.items() if spot.tensor.requires_grad}
        for spot in found.values():
            spot.tensor.requires_grad_(False)

    def weights(self) -> nn.Module:
        """Return its tensors as one module: the trained ones as parameters, the others as buffers.

        The module is part of no model. It is made at each call, so that it has the tensors that are there now.
        """
        whole = nn.Module()
        for name, spot in self.spots.items():
            (whole._parameters if name in self.trained else whole._buffers)[name] = spot.tensor  # type: ignore[assignment]
        return whole


def together(parts: Mapping[str, nn.Module]) -> nn.Module:
    """Return a module with some modules as its children; it is part of no model either."""
    whole = nn.Module()
    whole._modules.update(parts)
    return whole


def spots(module: nn.Module, path: str, key: str, known: set[int]) -> dict[str, Spot]:
    """Return every tensor in a module that is saved and not known yet, by its path without ``key``.

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
