"""The queue: who shares a batch, who is refused, who is given up, and what happens between two batches."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from graftwork.serving.batching import Batcher, Item
from graftwork.serving.refusals import DeadlineError, QueueFullError, StoppingError


class Squares:
    """Squares numbers, and keeps what was in each batch; waits for ``gate`` before each."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, numbers: list[Any]) -> list[Any]:
        self.gate.wait(10)
        self.batches.append(numbers)
        self.threads.add(threading.get_ident())
        return [ValueError("no number") if n is None else n * n for n in numbers]


def item(number: Any, group: str = "a", **more: int) -> Item:
    return Item(number, group, **more)


def test_one_item() -> None:
    async def asked() -> list[Any]:
        batcher = Batcher(Squares())
        found = await batcher.submit([item(3)])
        await batcher.close()
        return found

    assert asyncio.run(asked()) == [9]


def test_requests_that_wait_share_a_batch_and_one_thread_computes() -> None:
    squares = Squares()

    async def asked() -> list[list[Any]]:
        batcher = Batcher(squares, max_batch=8, max_wait=0.05)
        found = await asyncio.gather(*(batcher.submit([item(n)]) for n in range(20)))
        await batcher.close()
        return found

    assert asyncio.run(asked()) == [[n * n] for n in range(20)]
    assert [len(batch) for batch in squares.batches] == [8, 8, 4]
    assert len(squares.threads) == 1 and threading.get_ident() not in squares.threads


def test_a_batch_has_one_group_and_rows_near_the_first_in_length() -> None:
    squares = Squares()
    lengths = {1: 10, 2: 90, 3: 11, 4: 95, 5: 9, 6: 92}

    async def asked() -> None:
        batcher = Batcher(squares, max_batch=3, max_wait=0.05)
        waiting = [batcher.submit([item(n, "ab"[n == 2], length=lengths[n])]) for n in lengths]
        await asyncio.gather(*waiting)
        await batcher.close()

    asyncio.run(asked())
    assert squares.batches[0] == [3, 1, 5]  # about 10, the longest first; 1 came first
    assert sorted(map(sorted, squares.batches[1:])) == [[2], [4, 6]]


def test_the_size_of_an_item_counts() -> None:
    squares = Squares()

    async def asked() -> None:
        batcher = Batcher(squares, max_batch=4, max_wait=0.05)
        await asyncio.gather(*(batcher.submit([item(n, size=size)]) for n, size in enumerate([3, 3, 1, 9])))
        await batcher.close()

    asyncio.run(asked())
    assert sorted(map(sorted, squares.batches)) == [[0, 2], [1], [3]]


def test_an_error_of_one_is_a_result_and_an_error_of_all_reaches_all() -> None:
    def broken(numbers: list[Any]) -> list[Any]:
        raise RuntimeError("out of order")

    async def asked() -> tuple[Any, Any]:
        one, other = Batcher(Squares()), Batcher(broken)
        found = await one.submit([item(2), item(None)]), await other.submit([item(1)])
        assert await one.submit([item(4)]) == [16]
        await one.close()
        await other.close()
        return found

    (four, wrong), (error,) = asyncio.run(asked())
    assert four == 4 and isinstance(wrong, ValueError) and isinstance(error, RuntimeError)


def test_a_full_queue_refuses_all_of_a_request_and_keeps_what_it_has() -> None:
    squares = Squares()
    squares.gate.clear()

    async def asked() -> list[Any]:
        batcher = Batcher(squares, max_batch=1, max_wait=0, max_queue=4)
        first = asyncio.ensure_future(batcher.submit([item(0)]))
        await asyncio.sleep(0.05)  # the worker has it
        more = [asyncio.ensure_future(batcher.submit([item(n)])) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="3 rows wait, and the queue holds 4: there is no room for 2 more"):
            await batcher.submit([item(8), item(9)])
        squares.gate.set()
        found = [await one for one in (first, *more)]
        await batcher.close()
        return found

    assert asyncio.run(asked()) == [[0], [1], [4], [9]]
    assert all(9 not in batch for batch in squares.batches)


def test_after_its_deadline_a_row_is_not_computed() -> None:
    squares = Squares()
    squares.gate.clear()

    async def asked() -> None:
        batcher = Batcher(squares, max_batch=1, max_wait=0)
        first = asyncio.ensure_future(batcher.submit([item(1)]))
        await asyncio.sleep(0.02)
        with pytest.raises(DeadlineError, match="within 30 ms"):
            await batcher.submit([item(7)], 0.03)
        left = asyncio.ensure_future(batcher.submit([item(8)]))
        await asyncio.sleep(0.02)
        left.cancel()  # its client has gone
        squares.gate.set()
        assert await first == [1] and await batcher.submit([item(2)]) == [4]
        assert batcher.waiting == 0
        await batcher.close()

    asyncio.run(asked())
    assert squares.batches == [[1], [2]]


def test_changes_are_made_between_two_batches_by_the_same_thread() -> None:
    squares = Squares()

    async def asked() -> tuple[int, Any]:
        batcher = Batcher(squares, max_batch=1, max_wait=0)
        rows = [asyncio.ensure_future(batcher.submit([item(n)])) for n in range(3)]
        await asyncio.sleep(0)
        thread = await batcher.change(threading.get_ident)
        with pytest.raises(ZeroDivisionError):
            await batcher.change(lambda: 1 // 0)
        await asyncio.gather(*rows)
        await batcher.close()
        return thread, None

    thread, _ = asyncio.run(asked())
    assert squares.threads == {thread}


def test_closing_computes_what_waits_and_takes_no_more() -> None:
    squares = Squares()

    async def asked() -> list[Any]:
        batcher = Batcher(squares, max_batch=2, max_wait=5)
        rows = [asyncio.ensure_future(batcher.submit([item(n)])) for n in range(3)]
        await asyncio.sleep(0.02)
        began = time.monotonic()
        await batcher.close()
        assert time.monotonic() - began < 2  # not for the clock
        with pytest.raises(StoppingError):
            await batcher.submit([item(1)])
        return [await row for row in rows]

    assert asyncio.run(asked()) == [[0], [1], [4]]
