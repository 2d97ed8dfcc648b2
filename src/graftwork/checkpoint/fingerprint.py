"""What an adapter was trained on: the model's type, its layers and widths, and a sample of its weights.

Type and sizes cannot tell two revisions of one model apart, sampled weights can. The sample is kept as values, not as a
hash: so a copy of the base in half precision is recognised, and a difference can be named. Only weights inside the
layers are looked at; a head, a pooler or a longer vocabulary do not make another base.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from graftwork.attach import Handle

# What peft calls the module that it stands around.
WRAPPERS = ("base_layer", "original_module")
_MATRICES, _VECTORS, _VALUES = 16, 8, 6
_HALVES = (torch.bfloat16, torch.float16)
_PRECISIONS = (*_HALVES, torch.float32, torch.float64)

Sample = tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What is known of a base.

    Attributes:
        model_type: The type that its configuration names, else its class's name.
        model_class: Name of the class of the base model; told to the reader, not compared.
        stacks: Each stack of layers with its number of layers and its width.
        samples: A few weights: name to some values (``None`` for one that is not finite).
    """

    model_type: str
    model_class: str
    stacks: dict[str, tuple[int, int]]
    samples: dict[str, Sample]

    @classmethod
    def of(cls, handle: Handle, *, sample: bool = True) -> Fingerprint:
        """That of an attached model, its weights looked at or not."""
        base = getattr(handle.model, "base_model", None)
        base = base if isinstance(base, torch.nn.Module) else handle.model
        kind = getattr(getattr(handle.model, "config", None), "model_type", None) or type(base).__name__
        weights = base_weights(handle) if sample else {}
        samples = {name: _values(weights[name]) for name in _chosen(weights)}
        return cls(str(kind), type(base).__name__, _stacks(handle), samples)

    def differences(self, other: Fingerprint) -> list[str]:
        """In words, what the type and the layers of another differ in; its weights are not compared."""
        found = []
        if self.model_type != other.model_type:
            found.append(f"its model type is {self.model_type!r}, this one's {other.model_type!r}")
        for stack in dict.fromkeys((*self.stacks, *other.stacks)):
            name = stack or "the model"
            if stack not in self.stacks or stack not in other.stacks:
                found.append(
                    f"{name} is a stack of layers in {'this one' if stack in other.stacks else 'its base'} only"
                )
                continue
            (layers, width), (here, here_width) = self.stacks[stack], other.stacks[stack]
            if layers != here:
                found.append(f"{name} has {layers} layers in its base, {here} here")
            if width != here_width:
                found.append(f"{name} is {width} wide in its base, {here_width} here")
        return found

    def changed_weights(self, handle: Handle) -> list[str]:
        """Which sampled weights an attached model has otherwise, or not at all; quantised ones cannot be told."""
        weights = base_weights(handle)
        changed, compared = [], 0
        for name, sample in self.samples.items():
            if name in weights and (weights[name].is_meta or not weights[name].is_floating_point()):
                continue
            compared += 1
            if name not in weights or not same(sample, _values(weights[name])):
                changed.append(name)
        return list(self.samples) if self.samples and not compared else changed


def base_weights(handle: Handle) -> dict[str, Tensor]:
    """The base's weights inside its layers, by a name without the base model's prefix or peft's wrappers in it.

    All of its weights where it has no sites.
    """
    layers = [site for site in handle.sites if site.kind not in ("embedding", "output_projection")]
    blocks = tuple({f"{site.block}." if site.block else "" for site in layers}) or ("",)
    own = {id(p) for p, _ in handle._flags}
    found: dict[str, Tensor] = {}
    for name, p in handle.model.named_parameters():
        if id(p) in own and name.startswith(blocks):
            plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
            found[plain.removeprefix(handle.sites.prefix)] = p
    return found


def same(one: Sample, other: Sample) -> bool:
    """Whether two samples are of one weight, one of them perhaps rounded to half precision."""
    if one == other:
        return True
    if len(one) != len(other):
        return False
    a, b = _tensor(one), _tensor(other)
    precisions = {_precision(a), _precision(b)}
    if precisions == set(_HALVES):
        return bool(torch.allclose(a, b, rtol=2**-7, atol=1e-7, equal_nan=True))
    narrow = min(precisions, key=_PRECISIONS.index)
    return bool(torch.equal(a.to(narrow).nan_to_num(), b.to(narrow).nan_to_num()))


def _precision(values: Tensor) -> torch.dtype:
    """The narrowest dtype that holds all of some values."""
    return next(d for d in _PRECISIONS if torch.equal(values.to(d).double().nan_to_num(), values.nan_to_num()))


def _tensor(sample: Sample) -> Tensor:
    return torch.tensor([math.nan if v is None else v for v in sample], dtype=torch.float64)


def _chosen(weights: dict[str, Tensor]) -> list[str]:
    """Names spread evenly over all layers, matrices and vectors."""
    usable = {n: p for n, p in sorted(weights.items()) if p.is_floating_point() and p.numel() and not p.is_meta}
    matrices = [n for n, p in usable.items() if p.dim() > 1]
    vectors = [n for n, p in usable.items() if p.dim() <= 1]
    return [*_spread(matrices, _MATRICES), *_spread(vectors, _VECTORS)]


def _spread(names: Sequence[str], count: int) -> list[str]:
    if len(names) <= count:
        return list(names)
    return [names[n * (len(names) - 1) // (count - 1)] for n in range(count)]


def _values(weight: Tensor) -> Sample:
    """A few values of a weight, evenly spread, exact."""
    if weight.is_meta or not weight.is_floating_point():
        return ()
    last = weight.numel() - 1
    places = sorted({n * last // (_VALUES - 1) for n in range(_VALUES)}) if last >= 0 else []
    values = weight.detach().reshape(-1)[places].double().tolist()
    return tuple(v if math.isfinite(v) else None for v in values)


def _stacks(handle: Handle) -> dict[str, tuple[int, int]]:
    prefix = handle.sites.prefix
    widths: dict[str, int] = {}
    for site in handle.sites:
        widths[site.stack] = max(site.width, widths.get(site.stack, 0))
    return {stack.removeprefix(prefix): (layers, widths[stack]) for stack, layers in handle.sites.stacks.items()}
