"""Changes of what a model carries: one at a time over all threads, and each whole though Ctrl-C comes in the middle.

Forward passes and `using` wait for nobody: the tables that they look names up in are replaced by a change, never edited.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Lock:
    """A lock that the thread which has it may take again; a copy, or one out of a pickle, is a new one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()


class Locked(Protocol):
    """What has a lock over its changes."""

    lock: Lock


S = TypeVar("S", bound=Locked)


def one_at_a_time(change: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Method decorator: a thread that changes something waits for the one that does."""

    @functools.wraps(change)
    def waiting(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            return change(self, *args, **kwargs)

    return waiting


def whole(change: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Method decorator: as `one_at_a_time`, and Ctrl-C takes effect when the change has ended."""

    @functools.wraps(change)
    def uninterrupted(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with changing(self):
            return change(self, *args, **kwargs)

    return uninterrupted


@contextlib.contextmanager
def changing(what: Locked) -> Iterator[None]:
    """Change something inside a ``with``, alone; Ctrl-C takes effect when it is left."""
    with what.lock:
        handler: Any = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(handler):
            yield  # signals come to the main thread alone
            return
        came: list[tuple[Any, ...]] = []
        signal.signal(signal.SIGINT, lambda *told: came.append(told))
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)
            if came:
                handler(*came[0])
