"""The base's own tensors, by the names they have in files, and what is known of how they were before they were trained.

No copy of the base is kept. Where its training is first allowed a few values of every tensor are noted, by which the original
is known from every other base; what may have changed since is remembered by name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor, nn

from graftwork.attach.state import BaseHistory, ModelState
from graftwork.weights.names import RESERVED
from graftwork.weights.offload import is_kept, resident
from graftwork.weights.samples import Sample, has_values, sampled, samples

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


def history_of(state: ModelState) -> BaseHistory:
    """What is known of the base of a model that is being attached."""
    stored = _stored(state.model, ())
    parameters = {plain_name(state, name): w.tensor.shape for name, w in stored if w.is_parameter}
    return BaseHistory(parameters, buffer_names(state))


def note_training(state: ModelState) -> None:
    """Note what is trained of the base from now on, with the statistics of its norms where it is trained whole."""
    history, tensors = state.base_history, base_tensors(state)
    learning = {name for name, tensor in tensors.items() if tensor.requires_grad}
    if not state.trainable:  # the model's own head, which no other training touches
        learning |= {name for name, tensor in own_head(state).items() if tensor.requires_grad}
    if state.base_mode == "trained":
        learning |= history.buffers & tensors.keys()
    if learning and history.before is None:
        history.before = samples(tensors)
    history.changed |= learning


def buffer_names(state: ModelState) -> frozenset[str]:
    """The base's buffers that belong into files, by name."""
    stored = _stored(state.model, state.head_paths)
    return frozenset(plain_name(state, name) for name, weight in stored if not weight.is_parameter)


def base_tensors(state: ModelState) -> dict[str, Tensor]:
    """Every parameter and persistent buffer of the base, one that is tied once; without heads and what is not the base's."""
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, weight in _stored(state.model, state.head_paths):
        plain = plain_name(state, name)
        if _belongs(state, plain, weight) and id(weight.tensor) not in seen:
            seen.add(id(weight.tensor))
            found[plain] = weight.tensor
    return found


def own_head(state: ModelState) -> dict[str, Tensor]:
    """The tensors of the model's own head, without those it has in common with the base."""
    shared = {id(tensor) for tensor in base_tensors(state).values()}
    found = {}
    for path in state.head_paths:
        for name, weight in _stored(state.model.get_submodule(path), ()):
            if id(weight.tensor) not in shared:
                found[f"{OWN_HEAD}{path}.{name}"] = weight.tensor
    return found


def plain_name(state: ModelState, name: str) -> str:
    """A tensor's name without the base model's prefix or peft's wrappers in it."""
    plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
    return plain.removeprefix(state.sites.prefix)


def base_weights(state: ModelState) -> dict[str, Weight]:
    """The base's tensors, by a name without the base model's prefix or peft's wrappers in it."""
    found: dict[str, Weight] = {}
    for name, weight in _stored(state.model, ()):
        plain = plain_name(state, name)
        if _belongs(state, plain, weight):
            found[plain] = weight
    return found


def _belongs(state: ModelState, plain: str, weight: Weight) -> bool:
    """Whether a tensor is one that the base had when it was attached."""
    history = state.base_history
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
