"""Many clients at once, clients that leave, slow clients, and a server that is told to stop."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_run import WORDS
from tests.support.tiny_serving import Running, alone, save_adapters, serving

NAMES = [f"task{n}" for n in range(12)]
TEXTS = [" ".join(WORDS[n : n + 1 + 5 * (n % 3)]) for n in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("many")
    save_adapters(made, NAMES)
    return made


@pytest.fixture(scope="module")
def wanted(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    return {
        (name, text): found
        for name in NAMES
        for text, found in zip(TEXTS, alone(folder / "base", folder / "adapters" / name, TEXTS), strict=True)
    }


@pytest.fixture
def server(folder: Path) -> Iterator[Running]:
    with serving(folder / "adapters", base=folder / "base", max_batch=16) as running:
        yield running


def asked(running: Running, n: int) -> tuple[tuple[str, str], int, Any]:
    name, text = NAMES[n % len(NAMES)], TEXTS[n % 7 % len(TEXTS)]
    return (name, text), *running.predict(task=name, texts=[text])


def test_many_clients_of_many_tasks_each_get_their_own_answer(server: Running, wanted: dict[Any, Any]) -> None:
    with ThreadPoolExecutor(16) as clients:
        for key, status, found in clients.map(lambda n: asked(server, n), range(200)):
            assert status == 200
            assert found["predictions"][0]["probabilities"] == pytest.approx(wanted[key], abs=1e-5)
    text = server.ask("GET", "/metrics")[1]
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    batches, tasks = float(lines["graftwork_batch_tasks_count"]), float(lines["graftwork_batch_tasks_sum"])
    assert batches < 200 and tasks > batches  # rows of several requests and tasks shared batches


def test_clients_that_leave_leave_nothing_behind(server: Running, wanted: dict[Any, Any]) -> None:
    gate, (used,) = threading.Event(), server.service.table.used
    compute, computed = used.base.compute, list[Any]()

    def waiting(rows: Any) -> Any:
        computed.append("begun")
        gate.wait(20)
        computed.append(len(rows))
        return compute(rows)

    used.batcher._compute = waiting
    body = b'{"task": "task0", "texts": ["good"]}'
    head = (
        b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(body)
    )
    wires = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(8)]
    for n, wire in enumerate(wires):
        wire.sendall(head + body)
        if not n:  # the worker has the first, the others wait
            until(lambda: computed == ["begun"])
    until(lambda: used.batcher.waiting == 7)
    for wire in wires:
        wire.close()
    until(lambda: sum(task.waiting for task in server.service.table.tasks.values()) == 0)
    gate.set()
    key, status, found = asked(server, 3)
    assert status == 200 and found["predictions"][0]["probabilities"] == pytest.approx(wanted[key], abs=1e-5)
    assert computed == ["begun", 1, "begun", 1] and used.batcher.waiting == 0  # of the seven nothing was computed


def test_a_slow_client_holds_up_nobody(server: Running) -> None:
    body = b'{"task": "task0", "texts": ["good"]}'
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow:
        slow.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        slow.sendall(b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:10])
        began = time.monotonic()
        assert asked(server, 1)[1] == 200 and time.monotonic() - began < 5
        slow.sendall(body[10:])
        answer = b""
        while part := slow.recv(4096):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200")


def test_a_body_that_does_not_come_is_408(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graftwork.serving.guard.Guard.patience", 0.2, raising=False)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow:
        slow.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n{")
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")


def test_what_was_asked_is_answered_when_the_server_stops(folder: Path) -> None:
    with serving(folder / "adapters", base=folder / "base") as running:
        (used,) = running.service.table.used
        compute = used.base.compute

        def slowly(rows: Any) -> Any:
            time.sleep(0.5)
            return compute(rows)

        used.batcher._compute = slowly
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(asked(running, 0)[1]))
        thread.start()
        until(lambda: running.service.table.tasks["task0"].waiting == 1)
    thread.join(10)
    assert found == [200]
    with pytest.raises(OSError):
        asked(running, 0)


def until(there: Any, seconds: float = 10.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)
