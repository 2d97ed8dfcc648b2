"""The base's own tensors, by their names in files, and how they were before they were trained.

No copy of the base is kept. When some of it becomes trainable, a few values of every tensor are noted, which identify the
original base, and the names of what may have changed since.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from torch import Tensor, nn

from graftwork.attach.state import BaseHistory, ModelState
from graftwork.weights.holder import base_modules
from graftwork.weights.offload import is_kept, resident
from graftwork.weights.samples import Sample, has_values, is_sharded, sampled, samples
from graftwork.weights.sharded import ranks_launched

# The names that peft gives to modules that it wraps.
WRAPPERS = ("base_layer", "original_module")
OWN_HEAD = "head/"


class Weight(NamedTuple):
    """One tensor of the base, and its module; while it is offloaded, the tensor has no values."""

    module: nn.Module
    name: str
    tensor: Tensor
    is_parameter: bool
    noted: Sample | None = None  # what `BaseHistory.samples` has of it

    @property
    def readable(self) -> bool:
        """Whether its values can be read."""
        if is_kept(self.module, self.tensor):
            return self.tensor.is_floating_point() and bool(self.tensor.numel())
        return has_values(self.tensor)

    def sample(self) -> Sample:
        """A few of its values."""
        if self.noted is not None and is_sharded(self.tensor):
            return self.noted  # no rank has the values alone
        return sampled(self.values())

    def values(self) -> Tensor:
        """The tensor with its values."""
        return resident(self.module, self.name, self.tensor)


def history_of(state: ModelState) -> BaseHistory:
    """What is known of the base of a model that is being attached: its parameters, and the buffers that are saved."""
    everything, base = list(_stored(state.model)), _stored(state.model, state.head_paths)
    several = ranks_launched() > 1
    return BaseHistory(
        {plain_name(state, name): weight.tensor.shape for name, weight in everything if weight.is_parameter},
        frozenset(plain_name(state, name) for name, weight in base if not weight.is_parameter),
        {plain_name(state, name): weight.sample() for name, weight in everything if weight.readable} if several else {},
    )


def note_training(state: ModelState) -> None:
    """Note what of the base is trained from now on, with the statistics of its norms if it is trained whole."""
    history, tensors = state.base_history, base_tensors(state)
    trained = {name for name, tensor in tensors.items() if tensor.requires_grad}
    if not state.trainable:  # only then the model's own head may be trained
        trained |= {name for name, tensor in own_head(state).items() if tensor.requires_grad}
    if state.base_mode == "trained":
        trained |= history.buffers & tensors.keys()
    if trained and history.before is None:
        history.before = samples(tensors)
    history.changed |= trained


def base_tensors(state: ModelState) -> dict[str, Tensor]:
    """Every parameter and saved buffer of the base by its plain name, without heads; a tied tensor once."""
    once: dict[int, tuple[str, Tensor]] = {}
    for name, weight in base_weights(state, state.head_paths).items():
        once.setdefault(id(weight.tensor), (name, weight.tensor))
    return dict(once.values())


def own_head(state: ModelState) -> dict[str, Tensor]:
    """The tensors of the model's own head, without those that are the base's too."""
    shared = {id(tensor) for tensor in base_tensors(state).values()}
    return {
        f"{OWN_HEAD}{path}.{name}": weight.tensor
        for path in state.head_paths
        for name, weight in _stored(state.model.get_submodule(path))
        if id(weight.tensor) not in shared
    }


def plain_name(state: ModelState, name: str) -> str:
    """A tensor's name without the base model's prefix and the names of peft's wrappers."""
    plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
    return plain.removeprefix(state.sites.prefix)


def base_weights(state: ModelState, without: Collection[str] = ()) -> dict[str, Weight]:
    """The tensors that the base had when it was attached, by their plain name, without those inside the given paths."""
    parameters, buffers = state.base_history.parameters, state.base_history.buffers
    found = {}
    for name, weight in _stored(state.model, without):
        plain = plain_name(state, name)
        if parameters.get(plain) == weight.tensor.shape if weight.is_parameter else plain in buffers:
            found[plain] = weight._replace(noted=state.base_history.samples.get(plain))
    return found


def note_samples(state: ModelState) -> None:
    """Note a few values of each weight of the base, so that a rank alone can save what is trained on its shards.

    All ranks call it if the base is sharded already.
    """
    history = state.base_history
    if not history.samples or history.changed:
        found = base_weights(state).items()
        history.samples = {name: sampled(weight.values()) for name, weight in found if weight.readable}


def _stored(model: nn.Module, without: Collection[str] = ()) -> Iterator[tuple[str, Weight]]:
    """The parameters and saved buffers of a module by name, without those of adapters and inside the given paths."""
    skipped = tuple(f"{path}." for path in without)
    for path, module in base_modules(model):
        start = f"{path}." if path else ""
        if start.startswith(skipped):
            continue
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None and name not in module._non_persistent_buffers_set:
                yield start + name, Weight(module, name, tensor, name in module._parameters)
