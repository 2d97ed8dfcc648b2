"""The base's own tensors, by the names they have in files, and what is known of how they were before they were trained.

No copy of the base is kept. Where its training is first allowed a few values of every tensor are noted, by which the original
is told from every other base; what may have changed since is remembered by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from graftwork.attach.names import RESERVED
from graftwork.attach.offload import is_kept, resident
from graftwork.attach.samples import Sample, has_values, sampled, samples

if TYPE_CHECKING:
    from graftwork.attach.handle import Handle

# What peft calls the module that it stands around.
WRAPPERS = ("base_layer", "original_module")
OWN_HEAD = "head/"


class Weight(NamedTuple):
    """One tensor of the base and where it is: while it is offloaded, the module has it without its values."""

    module: nn.Module
    name: str
    tensor: Tensor
    is_parameter: bool

    @property
    def readable(self) -> bool:
        """Whether its values can be looked at."""
        if is_kept(self.module, self.tensor):
            return self.tensor.is_floating_point() and bool(self.tensor.numel())
        return has_values(self.tensor)

    def sample(self) -> Sample:
        """A few of its values."""
        return sampled(self.values())

    def values(self) -> Tensor:
        """The tensor with its values."""
        return resident(self.module, self.name, self.tensor)


@dataclasses.dataclass
class BaseHistory:
    """How a base came to be what it is.

    Attributes:
        parameters: The shapes of the parameters that it had when it was attached, by name, heads among them. They are known
            again by these: offloading, sharding and moves put other tensors in their places.
        buffers: The names of the buffers that it had then; adapters of other libraries bring more.
        before: A few values of every tensor of the original; ``None`` while nothing of it was allowed to learn.
        changed: The names of what may have changed since.
        kept: The original of what `load_base` wrote over, and what was known then; ``None`` where it was not asked to.
    """

    parameters: dict[str, torch.Size]
    buffers: frozenset[str]
    before: dict[str, Sample] | None = None
    changed: frozenset[str] = frozenset()
    kept: tuple[dict[str, Tensor], dict[str, Sample] | None, frozenset[str]] | None = None

    @classmethod
    def of(cls, handle: Handle) -> BaseHistory:
        """That of a model that is being attached."""
        stored = _stored(handle.model, ())
        parameters = {plain_name(handle, name): w.tensor.shape for name, w in stored if w.is_parameter}
        return cls(parameters, buffer_names(handle))

    def note(self, handle: Handle) -> None:
        """Take down what learns of the base from now on, with the statistics of its norms where it is trained whole."""
        tensors = base_tensors(handle)
        learning = {name for name, tensor in tensors.items() if tensor.requires_grad}
        if not handle.learning:  # the model's own head, which no other training touches
            learning |= {name for name, tensor in own_head(handle).items() if tensor.requires_grad}
        if handle.base_mode == "trained":
            learning |= self.buffers & tensors.keys()
        if learning and self.before is None:
            self.before = samples(tensors)
        self.changed |= learning


def buffer_names(handle: Handle) -> frozenset[str]:
    """The base's buffers that belong into files, by name."""
    stored = _stored(handle.model, handle.head_paths)
    return frozenset(plain_name(handle, name) for name, weight in stored if not weight.is_parameter)


def base_tensors(handle: Handle) -> dict[str, Tensor]:
    """Every parameter and persistent buffer of the base, one that is tied once; without heads and what is not the base's."""
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, weight in _stored(handle.model, handle.head_paths):
        plain = plain_name(handle, name)
        if _belongs(handle, plain, weight) and id(weight.tensor) not in seen:
            seen.add(id(weight.tensor))
            found[plain] = weight.tensor
    return found


def own_head(handle: Handle) -> dict[str, Tensor]:
    """The tensors of the model's own head, without those it has in common with the base."""
    shared = {id(tensor) for tensor in base_tensors(handle).values()}
    found = {}
    for path in handle.head_paths:
        for name, weight in _stored(handle.model.get_submodule(path), ()):
            if id(weight.tensor) not in shared:
                found[f"{OWN_HEAD}{path}.{name}"] = weight.tensor
    return found


def plain_name(handle: Handle, name: str) -> str:
    """A tensor's name without the base model's prefix or peft's wrappers in it."""
    plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
    return plain.removeprefix(handle.sites.prefix)


def base_weights(handle: Handle) -> dict[str, Weight]:
    """The base's tensors, by a name without the base model's prefix or peft's wrappers in it."""
    found: dict[str, Weight] = {}
    for name, weight in _stored(handle.model, ()):
        plain = plain_name(handle, name)
        if _belongs(handle, plain, weight):
            found[plain] = weight
    return found


def _belongs(handle: Handle, plain: str, weight: Weight) -> bool:
    """Whether a tensor is one that the base had when it was attached."""
    history = handle.base_history
    return history.parameters.get(plain) == weight.tensor.shape if weight.is_parameter else plain in history.buffers


def _stored(model: nn.Module, without: Collection[str]) -> list[tuple[str, Weight]]:
    """Parameters and persistent buffers by their names in a module; none of ours, none inside the paths given."""
    skipped = tuple(f"{path}." for path in without)
    found: list[tuple[str, Weight]] = []
    for path, module in model.named_modules():
        start = f"{path}." if path else ""
        if RESERVED in path.split(".") or start.startswith(skipped):
            continue
        found += [
            (start + name, Weight(module, name, p, True)) for name, p in module._parameters.items() if p is not None
        ]
        found += [
            (start + name, Weight(module, name, b, False))
            for name, b in module._buffers.items()
            if b is not None and name not in module._non_persistent_buffers_set
        ]
    return found
