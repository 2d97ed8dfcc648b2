"""Changes of a model's adapters: one at a time over all threads, and each finished before Ctrl-C takes effect.

They are made outside of torch's inference mode, wherever they are asked for: weights that are made in it can never be trained.

Forward passes and `using` never wait: a change of one name is one step in the tables that they look names up in
(`graftwork.attach.tables`); all other tables are replaced, and never edited.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


class Lock:
    """A reentrant lock; copying or unpickling makes a new one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()


class Locked(Protocol):
    """An object whose changes are guarded by a lock."""

    lock: Lock


S = TypeVar("S", bound=Locked)


def one_at_a_time(change: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Method decorator: threads run the decorated methods of an object one after another."""

    @functools.wraps(change)
    def waiting(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock, torch.inference_mode(False):
            return change(self, *args, **kwargs)

    return waiting


def whole(change: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Method decorator: as `one_at_a_time`, and Ctrl-C takes effect when the method has ended."""

    @functools.wraps(change)
    def uninterrupted(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with changing(self):
            return change(self, *args, **kwargs)

    return uninterrupted


@contextlib.contextmanager
def changing(what: Locked) -> Iterator[None]:
    """Hold the lock of an object inside a ``with`` block; Ctrl-C takes effect when the block is left."""
    with what.lock, torch.inference_mode(False):
        handler: Any = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(handler):
            yield  # only the main thread gets signals
            return
        signals: list[tuple[Any, ...]] = []
        signal.signal(signal.SIGINT, lambda *arguments: signals.append(arguments))
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)
            if signals:
                handler(*signals[0])
