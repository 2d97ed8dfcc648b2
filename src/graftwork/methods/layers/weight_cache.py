"""A cache of what is computed from weights alone: stacked weights of a bank, folded fusions, made adapters."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
_here = threading.local()


@contextlib.contextmanager
def only_kept() -> Iterator[None]:
    """Inside, in this thread, every cache gives what it keeps and looks at no weight: for a program that is traced once.

    While torch traces or compiles, a cache makes its value anew, in the graph. A forward pass of frozen weights before fills the
    caches, and what is made of weights alone is a constant of the program then.
    """
    _here.kept = True
    try:
        yield
    finally:
        _here.kept = False


class WeightCache(Generic[T]):
    """A value made of fixed weights, kept until one of them changes.

    A change shows in a tensor's version counter or its storage; writes through ``.data`` to the same storage do not,
    and need `drop`. A fused optimizer does not move the version counter, so nothing is kept of trainable weights. The
    weights are held, so that no new tensor can have the id of one of them.

    The value is made in the weights' own dtype, without autocast (`in_own_dtype`), so that it is right for every later call.
    """

    def __init__(self, make: Callable[[], T] | None = None) -> None:
        self._make = make
        self._made: T | None = None
        self._of: list[Tensor] = []
        self._key: list[tuple[object, ...]] = []

    def drop(self) -> None:
        """Drop the value; the next `get` makes it again."""
        self._made, self._of, self._key = None, [], []

    def get(self, weights: Sequence[Tensor], make: Callable[[], T] | None = None) -> T:
        """Return the value: kept where all weights are fixed, otherwise made again, in the graph if there is one.

        ``make`` is for a cache that was given none: what is made there needs more than its owner has.
        """
        if getattr(_here, "kept", False) and self._made is not None:
            return self._made
        make = make or self._make
        assert make is not None
        key = _key(weights)
        if key is None:
            return in_own_dtype(make, weights)
        if self._made is None or key != self._key:
            # Outside inference mode: tensors made in it can never be used under autograd.
            with torch.inference_mode(False), torch.no_grad():
                self._made = in_own_dtype(make, weights)
            self._of, self._key = [w.detach() for w in weights], key
        return self._made

    def __reduce__(self) -> tuple[object, ...]:
        return WeightCache, (self._make,)  # a copy starts empty


def learn(weights: Sequence[Tensor]) -> bool:
    """Whether one of the weights does."""
    return any(w.requires_grad for w in weights)


def _key(weights: Sequence[Tensor]) -> list[tuple[object, ...]] | None:
    """The identity and version of all weights; ``None`` where nothing is kept of them."""
    if torch.compiler.is_compiling() or learn(weights):
        return None
    try:
        return [(id(w), w.data_ptr(), w._version, w.dtype) for w in weights]
    except RuntimeError:  # in a transform of torch.func, such as vmap over weights, they have no storage
        return None


def in_own_dtype(make: Callable[[], T], weights: Sequence[Tensor]) -> T:
    """What ``make`` returns without autocast, in which sums would be of another dtype."""
    device = weights[0].device.type if weights else "meta"
    if not torch.amp.is_autocast_available(device):
        return make()
    with torch.autocast(device, enabled=False):
        return make()
