"""A few values of a weight, by which it is known again; and which weights can be looked at."""

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
    """A few values of each of some tensors."""
    return {name: sampled(tensor) for name, tensor in tensors.items()}


def sampled(tensor: Tensor) -> Sample:
    """A few values of a tensor, evenly spread, exact; none of one that is quantised, of integers, or without values."""
    if not has_values(tensor):
        return ()
    last = tensor.numel() - 1
    places = sorted({n * last // (_VALUES - 1) for n in range(_VALUES)})
    values = whole(tensor.detach()).reshape(-1)[places].double().tolist()
    return tuple(v if math.isfinite(v) else None for v in values)


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


def has_values(tensor: Tensor) -> bool:
    """Whether the values of a weight can be looked at: not of one without storage, of integers, or quantised."""
    if tensor.is_meta or not tensor.is_floating_point() or not tensor.numel():
        return False
    return not is_quantised(tensor)


def is_quantised(tensor: Tensor) -> bool:
    """Whether a tensor stands for values that it keeps as other tensors, as one of torchao does; one that is sharded does not."""
    return is_traceable_wrapper_subclass(tensor) and not hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that is sharded over processes, each of which has to ask for it; every other tensor itself."""
    gather = getattr(tensor, "full_tensor", None)  # a DTensor; to import its class takes a second
    return tensor if gather is None else gather()


def _precision(values: Tensor) -> torch.dtype:
    """The narrowest dtype that holds all of some values."""
    return next(d for d in _PRECISIONS if torch.equal(values.to(d).double().nan_to_num(), values.nan_to_num()))


def _tensor(sample: Sample) -> Tensor:
    return torch.tensor([math.nan if v is None else v for v in sample], dtype=torch.float64)
