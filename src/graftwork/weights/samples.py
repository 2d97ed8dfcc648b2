"""A few values of each weight, by which a base is recognised; and which weights have values that can be read."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

Sample = tuple[float | None, ...]
_VALUES = 6
_HALVES = (torch.bfloat16, torch.float16)
_PRECISIONS = (*_HALVES, torch.float32, torch.float64)


def samples(tensors: Mapping[str, Tensor]) -> dict[str, Sample]:
    """A few values of each tensor, by name."""
    return {name: sampled(tensor) for name, tensor in tensors.items()}


def sampled(tensor: Tensor) -> Sample:
    """A few values of a tensor, exact and evenly spaced; empty for one whose values cannot be read (`has_values`)."""
    if not has_values(tensor):
        return ()
    last = tensor.numel() - 1
    places = sorted({n * last // (_VALUES - 1) for n in range(_VALUES)})
    values = whole(tensor.detach()).reshape(-1)[places].double().tolist()
    return tuple(v if math.isfinite(v) else None for v in values)


def same(one: Sample, other: Sample) -> bool:
    """Whether two samples are of the same weight, one of them possibly rounded to half precision."""
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


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor has float values that can be read: none if it is empty, quantised, or on the meta device."""
    return not tensor.is_meta and tensor.is_floating_point() and tensor.numel() > 0 and not is_quantised(tensor)


def is_quantised(tensor: Tensor) -> bool:
    """Whether a tensor keeps its values in other tensors, as those of torchao do; a sharded one (a DTensor) does not count."""
    return is_traceable_wrapper_subclass(tensor) and not is_sharded(tensor)


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, of which each rank has a part."""
    return hasattr(tensor, "full_tensor")  # importing its class takes a second


def whole(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, for which every process must call this; any other tensor itself."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[no-any-return, attr-defined]  # a DTensor's


def _precision(values: Tensor) -> torch.dtype:
    """The narrowest dtype that represents all values exactly."""
    return next(d for d in _PRECISIONS if torch.equal(values.to(d).double().nan_to_num(), values.nan_to_num()))


def _tensor(sample: Sample) -> Tensor:
    return torch.tensor([math.nan if v is None else v for v in sample], dtype=torch.float64)
