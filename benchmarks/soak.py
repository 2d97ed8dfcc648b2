"""A soak of the server: requests while tasks are added, replaced and removed, every answer compared; then kill -9 and a new start.

    python -m benchmarks.soak --requests 50000

The base is a BERT of width 64 with two layers. Some tasks stay, others come and go: about one request in fifty is a change. A task's
answer must be that of one of the adapters which it had between the request and its answer (1e-5). At the end the server is killed,
started again, and must serve exactly the tasks whose changes were answered.
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

STAYING, CHANGING, ADAPTERS, CLIENTS, TOKEN = 8, 8, 12, 24, "soak"


class Soak:
    """Asks and changes; what each task may answer is known at any time.

    Attributes:
        now: For each task that changes the adapter that it has, ``None`` where it has none; two while a change is under way.
        worst: The largest difference of an answer.
    """

    def __init__(self, port: int, wanted: dict[str, list[list[float]]], some: list[str], requests: int) -> None:
        self.port, self.wanted, self.some = port, wanted, some
        self.now: dict[str, list[str | None]] = {f"changing{n}": [None] for n in range(CHANGING)}
        self.history: dict[str, list[tuple[float, list[str | None]]]] = {name: [(0.0, [None])] for name in self.now}
        self.left, self.worst, self.counts = iter(range(requests)), 0.0, dict.fromkeys(("ask", "gone", "put", "delete"), 0)

    async def run(self) -> None:
        """Ask until all requests are made."""
        await asyncio.gather(*(self._client(random.Random(n)) for n in range(CLIENTS)), self._changes(random.Random(-1)))

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
        self.counts["ask"] += 1

    def _had(self, task: str, since: float) -> set[str | None]:
        """The adapters that a task may have had since a time."""
        history = self.history[task]
        first = max((n for n, (at, _) in enumerate(history) if at <= since), default=0)
        return {one for _, several in history[first:] for one in several}

    async def _changes(self, draw: random.Random) -> None:
        connection = Connection(self.port)
        while sum(self.counts.values()) - self.counts["put"] - self.counts["delete"] < 1:
            await asyncio.sleep(0.01)
        asked = lambda: self.counts["ask"] + self.counts["gone"]  # noqa: E731  # a name for what is compared below
        last = asked()
        while True:
            while asked() < last + 50:
                if next(self._done(), None) is None:
                    connection.close()
                    return
                await asyncio.sleep(0.005)
            last = asked()
            task = draw.choice([*self.now])
            (before,) = self.now[task]
            after = None if before is not None and draw.random() < 0.4 else f"spare{draw.randrange(ADAPTERS)}"
            self._note(task, [before, after])
            if after is None:
                status, answer = await connection.ask("DELETE", f"/v1/tasks/{task}", token=TOKEN)
            else:
                status, answer = await connection.ask("PUT", f"/v1/tasks/{task}", {"folder": after}, TOKEN)
            assert status in (200, 201, 204), answer
            self.counts["delete" if after is None else "put"] += 1
            self._note(task, [after])
