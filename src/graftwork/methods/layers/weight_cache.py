"""What is made of weights and kept while these do not change: stacked weights of a bank, folded fusions, made adapters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class WeightCache(Generic[T]):
    """Something made of weights that are fixed, kept until a weight changes all the same.

    A change shows in a tensor's version counter or its storage; writes through ``.data`` to the same storage do not,
    and need `drop`. A fused optimizer moves no version counter, so nothing is kept of weights that learn. The weights
    are held, so that no other tensor can take the place of one unseen.

    It is a function of the weights alone: made in their own dtype whatever autocast says (`in_own_dtype`), so that what is
    kept serves every later call.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: T | None = None
        self._of: list[Tensor] = []
        self._key: tuple[object, ...] = ()

    def drop(self) -> None:
        """Forget it; the next `get` makes it anew."""
        self._made, self._of, self._key = None, [], ()

    def get(self, weights: Sequence[Tensor]) -> T:
        """The thing itself: kept where all weights are fixed, made anew (in the graph, if there is one) otherwise."""
        key = _key(weights)
        if key is None:
            return in_own_dtype(self._make, weights)
        if self._made is None or key != self._key:
            # Outside inference mode: what is made there could never be used under autograd.
            with torch.inference_mode(False), torch.no_grad():
                self._made = in_own_dtype(self._make, weights)
            self._of, self._key = [w.detach() for w in weights], key
        return self._made

    def __deepcopy__(self, memo: dict[int, object]) -> WeightCache[T]:
        raise TypeError("a kept value belongs to what it was made for and is not copied")


def _key(weights: Sequence[Tensor]) -> tuple[object, ...] | None:
    """What tells these weights, as they are now, from any others; ``None`` where nothing is kept of them."""
    if torch.compiler.is_compiling() or any(w.requires_grad for w in weights):
        return None
    try:
        return tuple((id(w), w.data_ptr(), w._version, w.dtype) for w in weights)
    except RuntimeError:  # in a transform of torch.func, such as vmap over weights, they have no storage
        return None


def in_own_dtype(make: Callable[[], T], weights: Sequence[Tensor]) -> T:
    """What is made of weights, without autocast: in bfloat16 the sum would be another one."""
    device = weights[0].device.type if weights else "meta"
    plain = (
        torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else contextlib.nullcontext()
    )
    with plain:
        return make()
