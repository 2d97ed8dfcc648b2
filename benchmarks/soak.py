"""A soak of the server: requests while tasks are added, replaced and removed, every answer compared; then it is killed.

    python -m benchmarks.soak --requests 50000

The base is a BERT of width 64 with two layers. Some tasks stay, others come and go: about one request in fifty is a change. A
task's answer must be that of one of the adapters which it had between the request and its answer (1e-5). At the end the server is
killed, started again, and must serve exactly the tasks whose changes were answered.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.http_client import Connection, resident, started
from benchmarks.serve import Alone, add, make, texts

STAYING, CHANGING, SPARE, CLIENTS, EVERY, TOKEN = 8, 8, 12, 24, 50, "soak"


class Soak:
    """Asks and changes; what each task may answer is known at any time.

    Attributes:
        now: For each task that changes the adapter that it has, ``None`` where it has none.
        history: For each since when it may have had which; both of two while a change is under way.
        worst: The largest difference of an answer.
        counts: How many requests were answered, found no task, put one, or removed one.
    """

    def __init__(self, port: int, wanted: dict[str, list[list[float]]], some: list[str], requests: int) -> None:
        self.port, self.wanted, self.some = port, wanted, some
        self.now: dict[str, str | None] = {f"changing{n}": None for n in range(CHANGING)}
        self.history: dict[str, list[tuple[float, set[str | None]]]] = {name: [(0.0, {None})] for name in self.now}
        self.left, self.asking, self.worst = iter(range(requests)), True, 0.0
        self.counts = dict.fromkeys(("asked", "gone", "put", "removed"), 0)

    async def run(self) -> None:
        """Ask until all requests are made."""
        changes = asyncio.ensure_future(self._changes(random.Random(-1)))
        await asyncio.gather(*(self._client(random.Random(n)) for n in range(CLIENTS)))
        self.asking = False
        await changes

    async def _client(self, draw: random.Random) -> None:
        connection = Connection(self.port)
        for _ in self.left:
            task = f"task{draw.randrange(STAYING)}" if draw.random() < 0.5 else draw.choice([*self.now])
            places = [draw.randrange(len(self.some)) for _ in range(draw.choice([1, 1, 1, 4]))]
            sent = time.monotonic()
            rows = [{"text": self.some[place]} for place in places]
            status, answer = await connection.ask("POST", "/v1/predict", {"task": task, "rows": rows})
            self._check(task, places, sent, status, answer)
        connection.close()

    def _check(self, task: str, places: list[int], sent: float, status: int, answer: Any) -> None:
        possible = self._had(task, sent) if task in self.now else {task}
        if status == 404:
            assert None in possible, f"{task} is not there: {answer}"
            self.counts["gone"] += 1
            return
        assert status == 200, answer
        found = [list(one["probabilities"].values()) for one in answer["predictions"]]
        apart = []
        for adapter in possible - {None}:
            wanted = [self.wanted[str(adapter)][place] for place in places]
            apart.append(max(abs(a - b) for x, y in zip(found, wanted, strict=True) for a, b in zip(x, y, strict=True)))
        assert apart and min(apart) < 1e-5, f"{task}: {apart} from {possible}"
        self.worst = max(self.worst, min(apart))
        self.counts["asked"] += 1

    def _had(self, task: str, since: float) -> set[str | None]:
        """The adapters that a task may have had since a time."""
        history = self.history[task]
        first = max((n for n, (at, _) in enumerate(history) if at <= since), default=0)
        return {one for _, several in history[first:] for one in several}

    async def _changes(self, draw: random.Random) -> None:
        connection, last = Connection(self.port), 0
        while self.asking:
            answered = self.counts["asked"] + self.counts["gone"]
            if answered < last + EVERY:
                await asyncio.sleep(0.002)
                continue
            last, task = answered, draw.choice([*self.now])
            before = self.now[task]
            after = None if before is not None and draw.random() < 0.4 else f"spare{draw.randrange(SPARE)}"
            self.history[task].append((time.monotonic(), {before, after}))
            if after is None and before is None:
                continue
            if after is None:
                status, answer = await connection.ask("DELETE", f"/v1/tasks/{task}", token=TOKEN)
            else:
                status, answer = await connection.ask("PUT", f"/v1/tasks/{task}", {"folder": after}, TOKEN)
            assert status in (200, 201, 204), answer
            self.counts["removed" if after is None else "put"] += 1
            self.now[task] = after
            self.history[task].append((time.monotonic(), {after}))
        connection.close()


async def tasks_of(port: int) -> dict[str, str]:
    """The tasks that a server has, each with the name of its adapter's folder."""
    _, told = await Connection(port).ask("GET", "/v1/tasks")
    return {task["name"]: Path(task["source"]).name for task in told}


async def soak(folder: Path, requests: int) -> None:
    some, alone = texts(40, shortest=2, longest=24), Alone(folder / "base")
    places = {f"task{n}": folder / "adapters" / f"task{n}" for n in range(STAYING)}
    places |= {f"spare{n}": folder / "store" / f"spare{n}" for n in range(SPARE)}
    wanted = {name: alone.probabilities(place, some) for name, place in places.items()}
    words = (folder / "adapters", "--base", folder / "base", "--store", folder / "store", "--admin-token", TOKEN)
    process, port = started(*words)
    try:
        await Soak(port, wanted, some, requests // 10).run()  # to warm up: caches are filled, threads have their stacks
        served = await tasks_of(port)
        for name in served:
            if name.startswith("changing"):
                await Connection(port).ask("DELETE", f"/v1/tasks/{name}", token=TOKEN)
        before, began = resident(process.pid), time.perf_counter()
        found = Soak(port, wanted, some, requests)
        await found.run()
        seconds, after = time.perf_counter() - began, resident(process.pid)
        served = await tasks_of(port)
    finally:
        process.kill()  # nothing is said to it
        process.wait(30)
    counts = found.counts
    print(
        f"{sum(counts.values())} requests in {seconds:.0f} s: {', '.join(f'{n} {what}' for what, n in counts.items())}"
    )
    print(f"largest difference to the adapter alone: {found.worst:.1e}")
    print(f"resident memory of the server: {before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after")
    process, port = started(*words)
    try:
        again = await tasks_of(port)
    finally:
        process.terminate()
        process.wait(30)
    expected = {name: name for name in places if name.startswith("task")}
    expected |= {name: adapter for name, adapter in found.now.items() if adapter is not None}
    assert served == again == expected, (served, again, expected)
    print(f"killed and started again: the same {len(again)} tasks, {len(again) - STAYING} of them added while it ran")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=50_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapters = make(folder, STAYING, width=64, layers=2)
        for n in range(SPARE):
            add(adapters, folder / "store" / f"spare{n}")
        asyncio.run(soak(folder, given.requests))


if __name__ == "__main__":
    main()
