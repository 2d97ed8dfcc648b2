"""The plan that `using` sets: in the thread, the asyncio task or the generator that enters it, and nowhere else.

A task, and what it starts (``asyncio.gather``, ``asyncio.to_thread``), has it by a context variable. That is not enough for a
generator, whose context is that of the code that takes the next item. A `using` entered in the body of a generator is therefore
kept by the generator's frame, and holds while that frame runs. One entered in a generator that ``contextlib`` makes a context
manager of belongs to the code around its ``with``.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import inspect
import itertools
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from graftwork.errors import AttachError
from graftwork.forward.plan import Plan


@dataclasses.dataclass(frozen=True, eq=False)
class Use:
    """One `using` that is entered and not left yet."""

    runtime: object
    plan: Plan | None  # None for the plain model
    generator: FrameType | None  # the generator in whose body it was entered
    inside: FrameType | None  # the innermost generator with a `using` of its own that was running when it was entered
    task: object  # the thread or the asyncio task
    number: int = dataclasses.field(default_factory=itertools.count().__next__)  # later ones have higher numbers


Uses = tuple[Use, ...]
_context: contextvars.ContextVar[Uses] = contextvars.ContextVar("graftwork_using", default=())
_generators: dict[FrameType, Uses] = {}  # by the frame of the generator in whose body they were entered


@contextlib.contextmanager
def using(runtime: object, plan: Plan | None) -> Iterator[None]:
    """Compute a plan inside a ``with``.

    Raises:
        AttachError: If it is left in another order than entered, or in another thread or task; it has ended then.
    """
    frame = _frame_of_with(sys._getframe(1))
    generator = frame if _is(frame, inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR) else None
    use = Use(runtime, plan, generator, next((f for f in _stack() if f in _generators), None), _task())
    if generator is not None:
        _generators[generator] = (*_generators.get(generator, ()), use)
    inherited = generator is None or _is(generator, inspect.CO_ASYNC_GENERATOR)
    if inherited:
        _context.set((*_context.get(), use))
    try:
        yield
    finally:
        before = _generators[generator] if generator else tuple(u for u in _context.get() if u.generator is None)
        if inherited:
            _context.set(tuple(u for u in _context.get() if u is not use))
        if generator is not None:
            _generators[generator] = tuple(u for u in before if u is not use)
            if not _generators[generator]:
                del _generators[generator]
        if before[-1:] != (use,):
            raise AttachError(
                f"using({plan and plan.composition!r}) is left before another one that was entered after it, or in another "
                "thread or task than it was entered in; write it as a with statement around the calls of the model"
            )


def innermost(runtime: object) -> tuple[Plan | None, ...]:
    """The plan of the innermost `using` that holds where this is called; empty where there is none.

    Raises:
        AttachError: If that is not known: in a task of its own, under a `using` that an asynchronous generator entered.
    """
    uses = _context.get()
    if not uses and not _generators:
        return ()
    entered = [use for use in uses if use.runtime is runtime]
    if not _generators:
        return tuple(use.plan for use in entered if use.generator is None)[-1:]
    depth = {frame: -n for n, frame in enumerate(_stack()) if frame in _generators}
    outermost, task = -sys.maxsize, _task()
    found = [(depth[frame], use) for frame in depth for use in _generators[frame] if use.runtime is runtime]
    for use in entered:
        if use.generator is not None:
            if use.generator in _generators and use.task is not task:
                found.append((outermost, use))
        elif use.inside not in _generators or use.task is not task:
            found.append((outermost, use))
        elif use.inside in depth:
            found.append((depth[use.inside], use))
    if not found:
        return ()
    deep, use = max(found, key=lambda one: (one[0], one[1].number))
    if deep == outermost and use.generator is not None:
        raise AttachError(
            f"using({use.plan and use.plan.composition!r}) is entered in the body of an asynchronous generator, and this forward "
            "pass runs in another task or thread, started by the generator or by the code that takes its items: which of the two "
            "is not known; enter using in the function that calls the model"
        )
    return (use.plan,)


class Innermost(dict[object, "tuple[Plan | None, ...]"]):
    """`innermost` as a method of a builtin: torch.compile then reads the property again at every call."""

    def __missing__(self, runtime: object) -> tuple[Plan | None, ...]:
        return innermost(runtime)


def _stack() -> list[FrameType]:
    """The frames under which this is called, innermost first."""
    frames, frame = [], sys._getframe(1)
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back  # type: ignore[assignment]
    return frames


def _frame_of_with(frame: FrameType) -> FrameType:
    """The frame of the code around a ``with``: not one of contextlib, nor of a function that it made a context manager of."""
    while frame.f_back is not None and (
        _of_contextlib(frame)
        or (_is(frame, inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR) and _of_contextlib(frame.f_back))
    ):
        frame = frame.f_back
    return frame


def _of_contextlib(frame: FrameType) -> bool:
    return frame.f_code.co_filename == contextlib.__file__


def _is(frame: FrameType, flags: int) -> bool:
    return bool(frame.f_code.co_flags & flags)


def _task() -> object:
    """The asyncio task that is running, else the thread."""
    if asyncio._get_running_loop() is None:
        return threading.current_thread()
    return asyncio.current_task() or threading.current_thread()
