"""What an adapter was trained on: the model's type, its layers and widths, and a sample of its weights.

Type and sizes cannot tell two revisions of one model apart, sampled weights can. The sample is kept as values, not as a
hash: so a copy of the base in half precision is recognised, and a difference can be named. Only weights inside the
layers are looked at; a head, a pooler or a longer vocabulary do not make another base. Norms are looked at for
themselves, and so is what learned of a base that was trained: few weights may be all that tells it from its original.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graftwork.attach.base import Sample, base_tensors, plain_name, sampled, samples
from graftwork.checkpoint.reader import Reader

if TYPE_CHECKING:
    from graftwork.attach import Handle

_MATRICES, _VECTORS = 16, 8
_HALVES = (torch.bfloat16, torch.float16)
_PRECISIONS = (*_HALVES, torch.float32, torch.float64)


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
        return cls(str(kind), type(base).__name__, _stacks(handle), samples(_chosen(handle)) if sample else {})

    @classmethod
    def read(cls, reader: Reader) -> Fingerprint:
        """That of a file.

        Raises:
            CheckpointError: If a field is missing, unknown or of the wrong type.
        """
        stacks, values = reader.inner("stacks"), reader.inner("samples")
        found = cls(
            reader.take("model_type", str),
            reader.take("model_class", str),
            {name: _stack(stacks.inner(name)) for name in stacks.data},
            {name: _sample(values.take(name, str)) for name in values.data},
        )
        reader.done()
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "model_type": self.model_type,
            "model_class": self.model_class,
            "stacks": {name: {"layers": n, "width": w} for name, (n, w) in self.stacks.items()},
            "samples": {name: " ".join(map(repr, values)) for name, values in self.samples.items()},
        }

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
        weights = {**base_tensors(handle), **base_weights(handle)}
        changed, compared = [], 0
        for name, sample in self.samples.items():
            if name in weights and (weights[name].is_meta or not weights[name].is_floating_point()):
                continue
            compared += 1
            if name not in weights or not same(sample, sampled(weights[name])):
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
            found[plain_name(handle, name)] = p
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


def _chosen(handle: Handle) -> dict[str, Tensor]:
    """Weights spread evenly over all layers: matrices, vectors, norms, and what learned of the base."""
    inside = {name: p for name, p in base_weights(handle).items() if _has_values(p)}
    learned = {
        name: tensor
        for name, tensor in base_tensors(handle).items()
        if name in handle.base_history.changed and _has_values(tensor)
    }
    norms = {plain_name(handle, path) for path in handle.sites.norms}
    names: list[str] = []
    for weights in (inside, learned):
        matrices = sorted(name for name, p in weights.items() if p.dim() > 1)
        vectors = sorted(name for name, p in weights.items() if p.dim() <= 1)
        names += [*_spread(matrices, _MATRICES), *_spread(vectors, _VECTORS)]
        names += _spread([name for name in vectors if name.rpartition(".")[0] in norms], _VECTORS)
    weights = {**inside, **learned}
    return {name: weights[name] for name in dict.fromkeys(names)}


def _has_values(tensor: Tensor) -> bool:
    return bool(tensor.is_floating_point() and tensor.numel() and not tensor.is_meta)


def _spread(names: Sequence[str], count: int) -> list[str]:
    if len(names) <= count:
        return list(names)
    return [names[n * (len(names) - 1) // (count - 1)] for n in range(count)]


def _stack(reader: Reader) -> tuple[int, int]:
    found = reader.take("layers", int), reader.take("width", int)
    reader.done()
    return found


def _sample(text: str) -> Sample:
    return tuple(None if value == "None" else float(value) for value in text.split())


def _stacks(handle: Handle) -> dict[str, tuple[int, int]]:
    prefix = handle.sites.prefix
    widths: dict[str, int] = {}
    for site in handle.sites:
        widths[site.stack] = max(site.width, widths.get(site.stack, 0))
    return {stack.removeprefix(prefix): (layers, widths[stack]) for stack, layers in handle.sites.stacks.items()}
