"""What a server answers is what `graftwork predict` says: for every kind of task, alone, among others, and over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import T5ForConditionalGeneration
from typer.testing import CliRunner

from graftwork.cli import app
from graftwork.experiments import run
from graftwork.inference import Predictor
from graftwork.serving.server import Sources, read_sources
from graftwork.serving.service import Limits, Service
from tests.support.tiny_generation_run import generation_recipe
from tests.support.tiny_serving import KINDS, Running, alike, every_kind_run, kinds_run, serving
from tests.support.tiny_tasks import ROWS, t5, vit


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_kind_run(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def server(done: Path) -> Iterator[Running]:
    with serving(done, max_wait_ms=20) as running:
        yield running


def unanswered(kind: str) -> list[dict[str, Any]]:
    """The rows of a kind, without their answers."""
    return [{key: value for key, value in row.items() if key not in ("label", "tags", "answers")} for row in ROWS[kind]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_by_itself(server: Running, done: Path, kind: str) -> None:
    rows = unanswered(kind)
    status, found = server.predict(task=kind, rows=rows)
    assert status == 200 and found["task"] == kind
    alike(found["predictions"], [one.to_dict() for one in Predictor(done, kind).predict(rows)])


def test_all_kinds_in_one_batch(done: Path) -> None:
    """Rows of six tasks, one of them with a fusion, one in several rows of the model, are one forward pass."""
    bases, tasks, _ = read_sources(Sources((done,)))
    batches: list[list[Any]] = []

    async def asked() -> list[list[dict[str, Any]]]:
        service = Service(bases, tasks, Limits(max_batch=64, max_wait_ms=100))
        (used,) = service.table.used
        used.batcher._observe = lambda payloads, _: batches.append(payloads)
        found = await asyncio.gather(*(service.predict([kind], unanswered(kind)) for kind in KINDS))
        await service.close()
        return list(found)

    found = asyncio.run(asked())
    (batch,) = batches
    assert {one.task.name for one in batch} == set(KINDS) and all(task.mixes for task in tasks)
    for kind, answers in zip(KINDS, found, strict=True):
        alike(answers, [one.to_dict() for one in Predictor(done, kind).predict(unanswered(kind))])


def test_as_the_command_line_prints_it(server: Running, done: Path) -> None:
    ran = CliRunner().invoke(app, ["predict", str(done), "--task", "tagging", "Anna lives in Berlin"])
    status, found = server.predict(task="tagging", texts=["Anna lives in Berlin"])
    assert status == 200
    alike(found["predictions"][0], json.loads(ran.stdout))


def test_several_tasks_over_the_same_rows(server: Running, done: Path) -> None:
    rows = [{"text": "good film"}, {"text": "the bad cat sat"}]
    status, found = server.predict(tasks=["classification", "regression"], rows=rows)
    assert status == 200 and "task" not in found
    for n, answer in enumerate(found["predictions"]):
        assert list(answer) == ["classification", "regression"]
        for task in answer:
            alike(answer[task], Predictor(done, task).predict(rows)[n].to_dict())


def test_the_only_target_is_the_task_of_a_request_that_names_none(server: Running, done: Path) -> None:
    status, found = server.predict(texts=["good film"])
    assert status == 200 and found["task"] == "classification"


def test_where_a_fusion_looks(server: Running) -> None:
    status, found, _ = server.ask("POST", "/v1/attention", {"task": "classification", "texts": ["good film"]})
    assert status == 200 and found["tokens"] == ["[CLS]", "good", "film", "[SEP]"]
    assert set(found["adapters"]) == set(KINDS) and len(found["sites"]) >= 1
    for weights in found["sites"].values():
        assert len(weights) == 4
        for row in weights:
            assert sum(row) == pytest.approx(1, abs=1e-5)
    status, said, _ = server.ask("POST", "/v1/attention", {"task": "tagging", "texts": ["Bob"]})
    assert status == 422 and "has no fusion" in said["error"]


def test_an_encoder_with_a_decoder_writes_the_same(tmp_path: Path) -> None:
    small = t5().config
    done = kinds_run(tmp_path, T5ForConditionalGeneration(small), ("text_to_text",))
    rows = [{"text": row["text"]} for row in ROWS["text_to_text"]]
    with serving(done) as running:
        status, found = running.predict(task="text_to_text", rows=rows)
        wanted = [one.to_dict() for one in Predictor(done, "text_to_text").predict(rows)]
        assert status == 200
        alike(found["predictions"], wanted)
        _, text, _ = running.ask("POST", "/v1/predict", {"texts": [rows[0]["text"]], "stream": True})
        alike(json.loads(text.splitlines()[-1]), wanted[0])


def test_images_are_numbers_and_no_files_of_the_server(tmp_path: Path) -> None:
    done = kinds_run(tmp_path, vit(), ("image_classification",))
    rows = [{"image": row["image"]} for row in ROWS["image_classification"]]
    (tmp_path / "secret.png").write_bytes(b"")
    with serving(done) as running:
        status, found = running.predict(task="image_classification", rows=rows)
        assert status == 200
        alike(found["predictions"], [one.to_dict() for one in Predictor(done, "image_classification").predict(rows)])
        for image in (str(tmp_path / "secret.png"), {"path": str(tmp_path / "secret.png")}, {"bytes": "x"}):
            status, said = running.predict(task="image_classification", rows=[{"image": image}])
            assert status == 422 and "must be numbers" in said["error"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of tasks that a decoder answers in words."""
    folder = tmp_path_factory.mktemp("written")
    run(generation_recipe(folder, targets=[], controls=[]), folder / "run", root=folder)
    return folder / "run"


@pytest.fixture(scope="module")
def writer(written: Path) -> Iterator[Running]:
    with serving(written, max_wait_ms=20) as running:
        yield running


ASKED: dict[str, Callable[[str], dict[str, Any]]] = {
    "upper": lambda text: {"prompt": text},
    "talk": lambda text: {"messages": [{"role": "user", "content": text}]},
    "judge": lambda text: {"prompt": text},
}


@pytest.mark.parametrize("task", ASKED)
def test_what_is_written_alone_and_in_a_batch(writer: Running, written: Path, task: str) -> None:
    rows = [ASKED[task](text) for text in ("good film", "bad", "a very dull film")]
    status, found = writer.predict(task=task, rows=rows)
    assert status == 200
    alike(found["predictions"], [one.to_dict() for one in Predictor(written, task).predict(rows)])


def test_two_tasks_that_write_share_a_batch(written: Path) -> None:
    bases, tasks, _ = read_sources(Sources((written,)))
    by_name = {task.name: task for task in tasks}
    assert by_name["upper"].group == by_name["talk"].group != by_name["judge"].group

    async def asked() -> list[Any]:
        service = Service(bases, tasks, Limits(max_wait_ms=100))
        found = await asyncio.gather(
            *(service.predict([task], [ASKED[task]("good film")]) for task in ("upper", "talk"))
        )
        await service.close()
        return list(found)

    for task, (answer,) in zip(("upper", "talk"), asyncio.run(asked()), strict=True):
        alike(answer, Predictor(written, task).predict([ASKED[task]("good film")])[0].to_dict())


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_pieces_of_an_answer_while_it_is_written(writer: Running, written: Path, accept: str) -> None:
    asked = {"task": "upper", "texts": ["good film"], "stream": True}
    status, text, headers = writer.ask("POST", "/v1/predict", asked, Accept=accept)
    events = accept == "text/event-stream"
    assert status == 200 and headers["content-type"].startswith(accept if events else "application/x-ndjson")
    found = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]
    *pieces, last = found
    alike(last, Predictor(written, "upper").predict([{"prompt": "good film"}])[0].to_dict())
    assert pieces and "".join(piece["piece"] for piece in pieces).strip() == last["value"]


def test_what_is_not_written_cannot_be_streamed(writer: Running, server: Running) -> None:
    for running, task in ((writer, "judge"), (server, "tagging")):
        status, said = running.predict(task=task, texts=["good film"], stream=True)
        assert status == 422 and "not written piece by piece" in said["error"]
