"""A queue in front of one worker thread: rows of many requests become batches, and nobody waits for longer than allowed.

A batch has rows of one group, which can be computed together. It is begun by the row that waits longest, and filled with the rows
of its group that are nearest to it in length. It is made when it is full, or when its first row has waited for ``max_wait``
seconds. While a batch is computed more rows arrive, so under load batches are full and nothing waits for the clock.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from graftwork.serving.refusals import DeadlineError, QueueFullError, StoppingError

Compute = Callable[[list[Any]], Sequence[Any]]
Observe = Callable[[list[Any], float], None]


@dataclasses.dataclass(eq=False)
class Item:
    """A row that waits.

    Attributes:
        payload: What is computed.
        group: Items of equal groups can share a batch.
        length: Those of similar lengths do.
        size: How many rows of the model's batch it takes.
    """

    payload: Any
    group: Hashable
    length: int = 1
    size: int = 1
    since: float = 0.0
    done: asyncio.Future[Any] = dataclasses.field(init=False)


class Batcher:
    """Makes batches of what is submitted and has one thread compute them; changes happen between two batches.

    Args:
        compute: Computes the payloads of a batch in the worker's thread and returns a result for each: a value, or an exception,
            which its submitter gets as a result.
        max_batch: The most rows of a batch; an item of more rows is a batch by itself.
        max_wait: The seconds that a row waits for others, at most.
        max_queue: The most rows that wait.
        observe: Called with the payloads of a batch and its seconds.

    Example:
        ``await Batcher(lambda numbers: [n * n for n in numbers]).submit([Item(3, "squares")])`` gives ``[9]``.
    """

    def __init__(
        self,
        compute: Compute,
        *,
        max_batch: int = 32,
        max_wait: float = 0.002,
        max_queue: int = 1024,
        observe: Observe | None = None,
    ) -> None:
        self.max_batch, self.max_wait, self.max_queue = max_batch, max_wait, max_queue
        self._compute, self._observe = compute, observe
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="graftwork-model")
        self._waiting: list[Item] = []
        self._changes: collections.deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = collections.deque()
        self._arrived = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def waiting(self) -> int:
        """How many rows wait."""
        return sum(item.size for item in self._waiting)

    async def submit(self, items: Sequence[Item], seconds: float | None = None) -> list[Any]:
        """Return the result of each item.

        Args:
            items: The items; all or none are taken.
            seconds: The time within which all must be computed.

        Raises:
            QueueFullError: If there is no room for them.
            DeadlineError: If the time is over; those that wait still are taken out.
            StoppingError: If `close` was called.
        """
        if self._stopping:
            raise StoppingError("the server is stopping; ask again in a moment")
        size, there = sum(item.size for item in items), self.waiting
        if there + size > self.max_queue:
            raise QueueFullError(
                f"{there} rows wait, and the queue holds {self.max_queue}: there is no room for {size} more; ask again in "
                "a moment, with fewer rows at a time"
            )
        loop = asyncio.get_running_loop()
        for item in items:
            item.since, item.done = time.monotonic(), loop.create_future()
        self._waiting += items
        self._start()
        results = [item.done for item in items]
        try:
            _, late = await asyncio.wait(results, timeout=seconds) if results else (None, ())
            if late:
                raise DeadlineError(
                    f"the answer was not there within {1000 * (seconds or 0):g} ms; give a later deadline, or fewer rows"
                )
            return [result.result() for result in results]
        finally:
            for result in results:  # of those who have left nothing is computed
                result.cancel()

    async def change(self, function: Callable[[], Any]) -> Any:
        """Return what a function returns that is run in the worker's thread, between two batches.

        Raises:
            StoppingError: If `close` was called.
        """
        if self._stopping:
            raise StoppingError("the server is stopping; ask again in a moment")
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._changes.append((function, result))
        self._start()
        return await asyncio.shield(result)  # a change that has begun is finished

    async def close(self) -> None:
        """Compute what waits, take no more, and end the thread."""
        self._stopping = True
        if self._runner is not None:
            self._arrived.set()
            await self._runner
        self._thread.shutdown()

    def _start(self) -> None:
        self._arrived.set()
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._changes:
                function, result = self._changes.popleft()
                await self._settle(result, function)
            self._waiting = [item for item in self._waiting if not item.done.done()]
            if not self._waiting:
                if self._stopping:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch, wait = self._batch()
            if wait > 0 and not self._stopping:
                self._arrived.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), wait)
                continue
            chosen = set(map(id, batch))
            self._waiting = [item for item in self._waiting if id(item) not in chosen]
            results = await loop.run_in_executor(self._thread, self._computed, [item.payload for item in batch])
            for item, found in zip(batch, results, strict=True):
                if not item.done.done():
                    item.done.set_result(found)

    def _batch(self) -> tuple[list[Item], float]:
        """The batch that is next, the longest rows first, and the seconds until it should be made."""
        first = self._waiting[0]
        alike = [one for one in self._waiting if one.group == first.group]
        chosen, size = [first], first.size
        for one in sorted(alike[1:], key=lambda one: abs(one.length - first.length)):
            if size + one.size <= self.max_batch:
                chosen.append(one)
                size += one.size
        full = size >= self.max_batch or len(chosen) < len(alike)
        return sorted(
            chosen, key=lambda one: -one.length
        ), 0.0 if full else first.since + self.max_wait - time.monotonic()

    def _computed(self, payloads: list[Any]) -> Sequence[Any]:
        began = time.perf_counter()
        try:
            results = self._compute(payloads)
        except Exception as error:  # whatever it is, those who wait hear of it and the next batch is computed
            results = [error] * len(payloads)
        if self._observe is not None:
            self._observe(payloads, time.perf_counter() - began)
        return results

    async def _settle(self, result: asyncio.Future[Any], function: Callable[[], Any]) -> None:
        try:
            value = await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except Exception as error:  # it belongs to the one who asked for the change
            if not result.done():
                result.set_exception(error)
        else:
            if not result.done():
                result.set_result(value)
