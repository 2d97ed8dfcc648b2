"""The base's own tensors, by the names they have in files, and what is known of how they were before they were trained.

No copy of the base is kept. Where its training is first allowed a few values of every tensor are noted, by which the original
is told from every other base; what may have changed since is remembered by name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from graftwork.attach.names import RESERVED

if TYPE_CHECKING:
    from graftwork.attach.handle import Handle

Sample = tuple[float | None, ...]
# What peft calls the module that it stands around.
WRAPPERS = ("base_layer", "original_module")
OWN_HEAD = "head/"
_VALUES = 6


@dataclasses.dataclass
class BaseHistory:
    """How a base came to be what it is.

    Attributes:
        buffers: The names of the buffers that it had when it was attached; adapters of other libraries bring more.
        before: A few values of every tensor of the original; ``None`` while nothing of it was allowed to learn.
        changed: The names of what may have changed since.
        kept: The original of what `load_base` wrote over, and what was known then; ``None`` where it was not asked to.
    """

    buffers: frozenset[str]
    before: dict[str, Sample] | None = None
    changed: frozenset[str] = frozenset()
    kept: tuple[dict[str, Tensor], dict[str, Sample] | None, frozenset[str]] | None = None

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
    return frozenset(
        plain_name(handle, name)
        for name, tensor in _stored(handle.model, handle.head_paths)
        if not isinstance(tensor, nn.Parameter)
    )


def base_tensors(handle: Handle) -> dict[str, Tensor]:
    """Every parameter and persistent buffer of the base, one that is tied once; without heads and what is not the base's."""
    own = {id(p) for p, _ in handle._flags}
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, tensor in _stored(handle.model, handle.head_paths):
        plain = plain_name(handle, name)
        belongs = id(tensor) in own if isinstance(tensor, nn.Parameter) else plain in handle.base_history.buffers
        if belongs and id(tensor) not in seen:
            seen.add(id(tensor))
            found[plain] = tensor
    return found


def own_head(handle: Handle) -> dict[str, Tensor]:
    """The tensors of the model's own head, without those it has in common with the base."""
    shared = {id(tensor) for tensor in base_tensors(handle).values()}
    found = {}
    for path in handle.head_paths:
        for name, tensor in _stored(handle.model.get_submodule(path), ()):
            if id(tensor) not in shared:
                found[f"{OWN_HEAD}{path}.{name}"] = tensor
    return found


def plain_name(handle: Handle, name: str) -> str:
    """A tensor's name without the base model's prefix or peft's wrappers in it."""
    plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
    return plain.removeprefix(handle.sites.prefix)


def samples(tensors: Mapping[str, Tensor]) -> dict[str, Sample]:
    """A few values of each of some tensors."""
    return {name: sampled(tensor) for name, tensor in tensors.items()}


def sampled(tensor: Tensor) -> Sample:
    """A few values of a tensor, evenly spread, exact; none of one that is quantised, of integers, or without values."""
    if tensor.is_meta or not tensor.is_floating_point():
        return ()
    last = tensor.numel() - 1
    places = sorted({n * last // (_VALUES - 1) for n in range(_VALUES)}) if last >= 0 else []
    values = tensor.detach().reshape(-1)[places].double().tolist()
    return tuple(v if math.isfinite(v) else None for v in values)


def _stored(model: nn.Module, without: Collection[str]) -> list[tuple[str, Tensor]]:
    """Parameters and persistent buffers by their names in a module; none of ours, none inside the paths given."""
    skipped = tuple(f"{path}." for path in without)
    found: list[tuple[str, Tensor]] = []
    for path, module in model.named_modules():
        start = f"{path}." if path else ""
        if RESERVED in path.split(".") or start.startswith(skipped):
            continue
        found += [(start + name, p) for name, p in module._parameters.items() if p is not None]
        found += [
            (start + name, b)
            for name, b in module._buffers.items()
            if b is not None and name not in module._non_persistent_buffers_set
        ]
    return found
