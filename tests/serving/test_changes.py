"""Tasks that are added, replaced and removed while a server runs: who may, what is refused, what is found after a restart."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graftwork.serving.store import FILE
from tests.support.tiny_serving import Running, alone, save_adapters, serving

TEXTS = ["the film was good", "awful"]
ADMIN = {"Authorization": "Bearer secret"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_adapters(tmp_path, ["film"])
    save_adapters(tmp_path / "store", ["one", "two"], seed=7, base=tmp_path / "base")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Running]:
    with serving(folder / "adapters", base=folder / "base", store=folder / "store", admin_token="secret") as running:
        yield running


def probabilities(running: Running, task: str) -> list[dict[str, float]]:
    status, found = running.predict(task=task, rows=[{"text": text} for text in TEXTS])
    assert status == 200, found
    return [one["probabilities"] for one in found["predictions"]]


def same(one: list[dict[str, float]], other: list[dict[str, float]]) -> bool:
    return all(a == pytest.approx(b, abs=1e-5) for a, b in zip(one, other, strict=True))


def test_added_replaced_and_removed(server: Running, folder: Path) -> None:
    wanted = {name: alone(folder / "base", folder / "store" / "adapters" / name, TEXTS) for name in ("one", "two")}
    status, told, _ = server.ask("PUT", "/v1/tasks/new", {"folder": "adapters/one"}, **ADMIN)
    assert status == 201 and told["name"] == "new" and told["labels"] == ["neg", "pos"] and told["mixed"]
    assert same(probabilities(server, "new"), wanted["one"])
    assert server.ask("PUT", "/v1/tasks/new", {"folder": "adapters/two"}, **ADMIN)[0] == 200
    assert same(probabilities(server, "new"), wanted["two"]) and not same(wanted["one"], wanted["two"])
    assert server.ask("DELETE", "/v1/tasks/new", **ADMIN)[0] == 204
    assert server.predict(task="new", texts=["x"])[0] == 404
    assert server.ask("DELETE", "/v1/tasks/new", **ADMIN)[0] == 404
    (used,) = server.service.table.used
    assert used.base.adapters.names == ("film",)  # no weights are left on the model


def test_more_adapters_than_are_in_memory(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d", "e"]
    save_adapters(tmp_path, names)
    wanted = {name: alone(tmp_path / "base", tmp_path / "adapters" / name, TEXTS) for name in names}
    with serving(tmp_path / "adapters", base=tmp_path / "base", max_resident=2, max_wait_ms=200) as running:
        found: dict[str, Any] = {}
        asking = [threading.Thread(target=lambda n=n: found.update({n: probabilities(running, n)})) for n in names]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert found.keys() == wanted.keys() and all(same(found[name], wanted[name]) for name in names)
        (used,) = running.service.table.used
        assert len(used.base.adapters.names) <= 2 and len(used.base.catalogue.names) == 5


def test_a_task_of_the_start_can_be_replaced(server: Running, folder: Path) -> None:
    assert server.ask("PUT", "/v1/tasks/film", {"folder": "adapters/two"}, **ADMIN)[0] == 200
    assert same(probabilities(server, "film"), alone(folder / "base", folder / "store" / "adapters" / "two", TEXTS))


def test_what_is_said_of_the_task(server: Running) -> None:
    task = {"kind": "classification", "text": "sentence"}
    assert server.ask("PUT", "/v1/tasks/new", {"folder": "adapters/one", "task": task}, **ADMIN)[0] == 201
    assert server.predict(task="new", rows=[{"sentence": "good"}])[0] == 200
    assert server.predict(task="new", rows=[{"text": "good"}])[0] == 422


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("new", {"folder": "nowhere"}, "no such folder in the store"),
        ("new", {"folder": "../adapters/film"}, "no such folder in the store"),
        ("new", {"folder": "/etc"}, "no such folder in the store"),
        ("new", {"folder": "."}, "no such folder in the store"),
        ("new", {"folder": "bad\0name"}, "no such folder in the store"),
        ("new", {"folder": "link"}, "no such folder in the store"),
        ("new", {"folder": "adapters"}, "graftwork.json"),
        ("new", {"folder": "damaged"}, "damaged"),
        ("new", {"folder": "adapters/one", "base": "other"}, "base is 'other'"),
        ("new", {"folder": "adapters/one", "task": {"kind": "tagging"}}, "TokenClassification"),
        ("new", {"folder": "adapters/one", "task": {"colour": 1}}, "task.colour"),
        ("new", {}, "folder"),
        ("a:b", {"folder": "adapters/one"}, "cannot be the name of a task"),
        ("a%0Ab", {"folder": "adapters/one"}, "cannot be the name of a task"),
    ],
)
def test_what_cannot_be_added_changes_nothing(
    server: Running, folder: Path, name: str, asked: dict[str, Any], said: str
) -> None:
    (folder / "store" / "damaged").mkdir()
    (folder / "store" / "damaged" / "graftwork.json").write_text("{}")
    (folder / "store" / "link").symlink_to(folder / "adapters" / "film")
    status, told, _ = server.ask("PUT", f"/v1/tasks/{name}", asked, **ADMIN)
    assert status == 422 and said in told["error"]
    assert list(server.service.table.tasks) == ["film"] and not (folder / "store" / FILE).exists()
    (used,) = server.service.table.used
    assert used.base.adapters.names == ("film",)


def test_who_may_change_tasks(server: Running, folder: Path) -> None:
    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "secret"}):
        status, said, _ = server.ask("PUT", "/v1/tasks/new", {"folder": "adapters/one"}, **headers)
        assert status == 401 and "admin token" in said["error"]
        assert server.ask("DELETE", "/v1/tasks/film", **headers)[0] == 401
    with serving(folder / "adapters", base=folder / "base") as closed:
        status, said, _ = closed.ask("PUT", "/v1/tasks/new", {"folder": "adapters/one"}, **ADMIN)
        assert status == 403 and "--admin-token" in said["error"]


def test_a_server_that_starts_again_serves_the_same(folder: Path) -> None:
    options: dict[str, Any] = {"base": folder / "base", "store": folder / "store", "admin_token": "secret"}
    save_adapters(folder, ["plot"], seed=3)
    with serving(folder / "adapters", **options) as running:
        running.ask("PUT", "/v1/tasks/new", {"folder": "adapters/one", "task": {"text": "t"}}, **ADMIN)
        running.ask("PUT", "/v1/tasks/film", {"folder": "adapters/two"}, **ADMIN)
        running.ask("PUT", "/v1/tasks/gone", {"folder": "adapters/two"}, **ADMIN)
        running.ask("DELETE", "/v1/tasks/plot", **ADMIN)
        before = probabilities(running, "film")
        kept = json.loads((folder / "store" / FILE).read_text())
    kept["tasks"]["gone"]["folder"] = "adapters/no more"
    (folder / "store" / FILE).write_text(json.dumps(kept))
    with (
        pytest.warns(UserWarning, match=r"the task 'gone', .* is not served"),
        serving(folder / "adapters", **options) as again,
    ):
        assert list(again.service.table.tasks) == ["film", "new"]
        assert same(probabilities(again, "film"), before)
        assert again.predict(task="new", rows=[{"t": "good"}])[0] == 200


def test_a_request_that_waits_is_answered_by_the_version_it_was_sent_to(server: Running, folder: Path) -> None:
    wanted = alone(folder / "base", folder / "adapters" / "film", TEXTS)
    gate, (used,) = threading.Event(), server.service.table.used
    compute = used.base.compute

    def waiting(asked: Any) -> Any:
        gate.wait(20)
        return compute(asked)

    used.batcher._compute = waiting
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(probabilities(server, "film")))
    thread.start()
    changed = threading.Thread(
        target=lambda: found.append(server.ask("PUT", "/v1/tasks/film", {"folder": "adapters/two"}, **ADMIN)[0])
    )
    while not used.batcher._waiting and not server.service.table.tasks["film"].waiting:
        pass
    changed.start()
    gate.set()
    thread.join(20)
    changed.join(20)
    answers = next(one for one in found if isinstance(one, list))
    assert same(answers, wanted)
    assert same(probabilities(server, "film"), alone(folder / "base", folder / "store" / "adapters" / "two", TEXTS))
