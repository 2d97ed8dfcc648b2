"""Requests that are refused, each with its status and a sentence; and one bad row among good ones."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_serving import Running, alone, save_adapters, serving

TEXT = "the film was good"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("requests")
    save_adapters(made, ["film", "films", "plot"])
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(folder / "adapters", base=folder / "base", max_bytes=20_000, max_rows=8) as running:
        yield running


def held(running: Running) -> threading.Event:
    """Keep the worker of a server busy until the event is set."""
    gate, (used,) = threading.Event(), running.service.table.used
    compute = used.base.compute

    def waiting(asked: Any) -> Any:
        gate.wait(20)
        return compute(asked)

    used.batcher._compute = waiting
    return gate


def test_tasks_and_health(server: Running) -> None:
    assert server.ask("GET", "/healthz")[:2] == (200, {"status": "ok", "tasks": 3})
    status, tasks, _ = server.ask("GET", "/v1/tasks")
    assert status == 200 and [task["name"] for task in tasks] == ["film", "films", "plot"]
    assert tasks[0] | {"source": "", "base": ""} == {
        "name": "film",
        "kind": "classification",
        "columns": ["text"],
        "pair": "text_pair",
        "labels": ["neg", "pos"],
        "writes": False,
        "fusion": None,
        "mixed": True,
        "base": "",
        "source": "",
    }


def test_an_unknown_task_is_404_with_the_near_names(server: Running) -> None:
    status, said = server.predict(task="filn", texts=[TEXT])
    assert status == 404 and said["near"] == ["film", "films"]
    assert "no task is called 'filn'; did you mean 'film' or 'films'?" in said["error"]
    assert server.predict(task="sentiment", texts=[TEXT])[1]["near"] == []


def test_without_a_task_it_has_to_be_found(server: Running) -> None:
    for asked in ({"texts": [TEXT]}, {"rows": [{"text": TEXT}]}):
        status, said = server.predict(**asked)
        assert status == 422 and '"task": NAME' in said["error"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "either rows"),
        ({"task": "film", "rows": []}, "rows"),
        ({"task": "film", "rows": [{"text": "x"}], "texts": ["x"]}, "either rows"),
        ({"task": "film", "rows": "x"}, "rows"),
        ({"task": "film", "tasks": ["plot"], "texts": ["x"]}, "either task or tasks"),
        ({"tasks": ["film", "film"], "texts": ["x"]}, "twice"),
        ({"task": "film", "texts": ["x"], "deadline_ms": -1}, "deadline_ms"),
        ({"task": "film", "texts": ["x"], "colour": "red"}, "colour"),
        ({"task": "film", "texts": ["x", "y", "z"]}, "given are 3 texts"),
        ({"task": "film", "rows": [{"words": "x"}]}, "row 1: no column 'text'"),
        ({"task": "film", "rows": [{"text": 3}]}, "it must be a text"),
        ({"task": "film", "rows": [{"text": {"a": [[[]]]}}]}, "it must be a text"),
    ],
)
def test_what_is_wrong_is_422_in_a_sentence(server: Running, asked: dict[str, Any], said: str) -> None:
    status, answer = server.predict(**asked)
    assert status == 422 and said in answer["error"] and "Traceback" not in answer["error"]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'{"task": NaN', b"\xff\xfe", b"[" * 9000])
def test_what_is_no_request_is_refused(server: Running, raw: bytes) -> None:
    status, answer, _ = server.ask("POST", "/v1/predict", raw=raw)
    assert status in (400, 422) and answer["error"]


def test_elsewhere_is_404_and_another_method_405(server: Running) -> None:
    assert server.ask("GET", "/v2/predict")[0] == 404
    assert server.ask("GET", "/docs")[0] == 404  # its scripts would come from elsewhere
    status, answer, _ = server.ask("GET", "/v1/predict")
    assert status == 405 and "/v1/predict" in answer["error"]


def test_what_is_too_long_is_413(server: Running) -> None:
    status, said = server.predict(task="film", rows=[{"text": "good " * 200}] * 30)
    assert status == 413 and "20,000" in said["error"]  # bytes
    status, said = server.predict(task="film", rows=[{"text": "good"}] * 9)
    assert status == 413 and "9 rows, and a request may have 8" in said["error"]
    status, said = server.predict(task="film", texts=["good " * 513])
    assert status == 413 and "more than the 512 tokens" in said["error"] and '"cut": true' in said["error"]
    status, found = server.predict(task="film", texts=["good " * 513], cut=True)
    assert status == 200 and found == server.predict(task="film", texts=["good " * 512])[1]


def test_a_body_in_pieces_is_bounded_too(server: Running) -> None:
    """Without a declared length."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
        wire.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has answered, and reads no more
            for _ in range(30):
                wire.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
        assert b"413" in wire.recv(1024).split(b"\r\n")[0]


def test_a_bad_row_fails_alone(server: Running, folder: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "good"},
        {"text": None},
        {"words": "x"},
        {"text": "good " * 600},
        {"text": TEXT},
    ]
    status, found = server.predict(task="film", rows=rows)
    assert status == 200
    first, *bad, last = found["predictions"]
    wanted = alone(folder / "base", folder / "adapters" / "film", ["good", TEXT])
    assert first["probabilities"] == pytest.approx(wanted[0], abs=1e-5)
    assert last["probabilities"] == pytest.approx(wanted[1], abs=1e-5)
    for number, one, said in zip((2, 3, 4), bad, ("a value has to stand", "no column", "512 tokens"), strict=True):
        assert list(one) == ["error"] and f"row {number}" in one["error"] and said in one["error"]


def test_a_row_that_fails_in_the_model_fails_alone(folder: Path) -> None:
    """What no check has foreseen: the batch is computed in parts, and its neighbours have their answers."""
    with serving(folder / "adapters", base=folder / "base", max_wait_ms=50) as running:
        (used,) = running.service.table.used
        answers = used.base._answers

        def broken(asked: Any, tasks: Any) -> Any:
            if any(one.rows[0]["text"] == "awful" for one in asked):
                raise RuntimeError("secret")
            return answers(asked, tasks)

        used.base._answers = broken
        with pytest.warns(UserWarning, match="is computed in parts"):
            status, found = running.predict(task="film", rows=[{"text": text} for text in (TEXT, "awful", "bad")])
        assert status == 200 and [next(iter(one)) for one in found["predictions"]] == ["value", "error", "value"]
        assert "secret" not in json.dumps(found)
        status, said = running.predict(task="film", texts=["awful"])
        assert status == 500 and "RuntimeError" in said["error"] and "secret" not in said["error"]


def test_a_full_queue_is_429(folder: Path) -> None:
    with serving(folder / "adapters", base=folder / "base", max_queue=3, max_batch=1) as running:
        gate = held(running)
        statuses: list[int] = []
        ask = lambda: statuses.append(running.predict(task="film", texts=[TEXT])[0])  # noqa: E731  # a name for what threads run
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        status, said, headers = running.ask("POST", "/v1/predict", {"task": "film", "texts": [TEXT]})
        assert status == 429 and "3 rows wait" in said["error"] and headers["retry-after"] == "1"
        gate.set()
        for thread in threads:
            thread.join(20)
        assert statuses == [200] * 4


def test_a_deadline_is_504(folder: Path) -> None:
    with serving(folder / "adapters", base=folder / "base") as running:
        gate = held(running)
        began = time.monotonic()
        status, said = running.predict(task="film", texts=[TEXT], deadline_ms=100)
        assert status == 504 and "ms" in said["error"] and time.monotonic() - began < 5
        gate.set()
        assert running.predict(task="film", texts=[TEXT])[0] == 200


def test_counts(server: Running) -> None:
    server.predict(task="film", texts=[TEXT])
    server.predict(task="nothing", texts=[TEXT])
    status, text, headers = server.ask("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain")
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['graftwork_requests_total{route="/v1/predict",status="200"}']) >= 1
    assert float(lines['graftwork_requests_total{route="/v1/predict",status="404"}']) >= 1
    assert float(lines["graftwork_batch_rows_count"]) >= 1 and float(lines["graftwork_queue_rows"]) == 0
    assert float(lines["graftwork_tasks"]) == 3 and 'graftwork_rows_total{outcome="predicted"}' in lines
