"""A client that asks a server over many connections, each kept open, and never more than a number of requests or seconds."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class Connection:
    """One connection that is kept open; it is made again where it was closed."""

    def __init__(self, port: int) -> None:
        self.port, self.reader, self.writer = port, None, None

    async def ask(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        )
        message = head.encode() + (f"Authorization: Bearer {token}\r\n" if token else "").encode() + b"\r\n" + data
        kept = self.writer is not None
        try:
            return await self._asked(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            if not kept:
                raise
            self.close()  # the server has closed it, as nothing was asked for some seconds
            return await self._asked(message)

    async def _asked(self, message: bytes) -> tuple[int, Any]:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(message)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        text = await self.reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), json.loads(text) if text and "json" in headers[
            "content-type"
        ] else text.decode()

    def close(self) -> None:
        """Close it."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


Ask = Callable[[int], dict[str, Any]]


async def closed_loop(port: int, clients: int, seconds: float, most: int, ask: Ask) -> tuple[float, list[float]]:
    """Requests a second, and the seconds of each: every client asks again as soon as it has its answer."""
    latencies: list[float] = []
    numbers = iter(range(most))
    began = time.perf_counter()

    async def client() -> None:
        connection = Connection(port)
        for number in numbers:
            start = time.perf_counter()
            if start - began > seconds:
                break
            status, answer = await connection.ask("POST", "/v1/predict", ask(number))
            assert status == 200, answer
            latencies.append(time.perf_counter() - start)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(latencies) / (time.perf_counter() - began), latencies


async def at_rate(port: int, rate: float, seconds: float, most: int, ask: Ask) -> list[float]:
    """The seconds of each request where they come at random times, so many a second in the mean, and wait for nobody."""
    latencies: list[float] = []
    free: list[Connection] = []
    draw = random.Random(0)

    async def one(number: int, due: float) -> None:
        connection = free.pop() if free else Connection(port)
        status, answer = await connection.ask("POST", "/v1/predict", ask(number))
        assert status == 200, answer
        latencies.append(time.perf_counter() - due)  # from when it should have been sent
        free.append(connection)

    running, due, end = [], time.perf_counter(), time.perf_counter() + seconds
    for number in range(most):
        due += draw.expovariate(rate)
        if due > end:
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        running.append(asyncio.ensure_future(one(number, due)))
    await asyncio.gather(*running)
    for connection in free:
        connection.close()
    return latencies


def started(*words: str | Path) -> tuple[subprocess.Popen[str], int]:
    """A server in a process of its own, and its port."""
    command = [sys.executable, "-m", "graftwork", "serve", *map(str, words), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r":(\d+)\s*$", line)
    if found is None:
        raise SystemExit(f"the server has not started: {line}")
    return process, int(found[1])


def resident(process: int) -> int:
    """The resident bytes of a process; 0 where the system does not say."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def processor_seconds(process: int) -> float:
    """The seconds that processors have spent on a process; 0 where the system does not say."""
    try:
        numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
