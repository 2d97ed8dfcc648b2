"""Two replicas on a cluster of Ray on this machine: they answer as one server does, and each task stays with one of them."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from graftwork.cli import app
from graftwork.errors import ConfigError
from graftwork.inference import Predictor
from graftwork.serving.server import Sources
from tests.support.tiny_serving import alike, alone, kinds_run, save_adapters
from tests.support.tiny_tasks import ROWS, bert

pytest.importorskip("ray.serve")
pytestmark = pytest.mark.slow
KINDS = ("classification", "regression")
SAVED = ("film", "plot", "actor")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    kinds_run(folder, bert(), KINDS)
    save_adapters(folder, SAVED, base=folder / "base")
    return folder


class Cluster:
    """The server on Ray, to ask."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any, str]:
        """The status, the JSON, and the replica that answered."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer), answer.headers["x-replica"]
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused), refused.headers["x-replica"]

    def predict(self, task: str, **asked: Any) -> tuple[Any, str]:
        """The predictions of a task, and the replica that made them."""
        status, found, replica = self.ask("/v1/predict", {"task": task, **asked})
        assert status == 200, found
        return found["predictions"], replica


@pytest.fixture(scope="module")
def cluster(made: Path) -> Iterator[Cluster]:
    from graftwork.serving.on_ray import deployed
    from graftwork.serving.service import Limits

    sources = Sources((made / "run", made / "adapters"), max_resident=5)
    limits = Limits(max_queue=8, max_rows=20, max_bytes=10_000)
    with deployed(sources, replicas=2, port=0, limits=limits) as address:
        yield Cluster(address)


def test_answers_are_those_of_graftwork_predict_and_of_each_adapter_alone(cluster: Cluster, made: Path) -> None:
    for kind in KINDS:
        rows = [{"text": row["text"]} for row in ROWS[kind][:4]]
        alike(
            cluster.predict(kind, rows=rows)[0], [one.to_dict() for one in Predictor(made / "run", kind).predict(rows)]
        )
    texts = ["good film", "the film was not good"]
    for name in SAVED:
        found, _ = cluster.predict(name, rows=[{"text": text} for text in texts])
        for one, expected in zip(found, alone(made / "base", made / "adapters" / name, texts), strict=True):
            assert one["probabilities"] == pytest.approx(expected, abs=1e-5)


def test_the_requests_of_a_task_stay_on_one_replica_and_both_replicas_answer(cluster: Cluster) -> None:
    where = {}
    for name in (*KINDS, *SAVED):
        where[name] = cluster.predict(name, texts=["good film"])[1]
        time.sleep(0.4)  # the replica has told that it has the task; the next one goes to who has fewer
    for _ in range(5):
        for name, replica in where.items():
            assert cluster.predict(name, texts=["good film"])[1] == replica
    assert len(set(where.values())) == 2


@pytest.mark.parametrize(
    ("path", "body", "method", "status", "said"),
    [
        ("/v1/predict", {"task": "flim", "texts": ["good"]}, "POST", 404, "did you mean 'film'?"),
        ("/v1/predict", {"task": "film", "rows": [{"text": "good"}] * 12}, "POST", 429, "no room for 12 more"),
        ("/v1/predict", {"task": "film", "rows": [{"text": "good"}] * 30}, "POST", 413, "a request may have 20"),
        ("/v1/predict", {"task": "film", "texts": ["good " * 3000]}, "POST", 413, "a request may have 10,000"),
        ("/v1/predict", {"task": "film", "texts": ["good"], "deadline_ms": 0.001}, "POST", 504, "deadline"),
        ("/v1/predict", [1], "POST", 422, "dict"),
        ("/v1/tasks/film", None, "DELETE", 403, "on Ray tasks cannot be changed"),
    ],
)
def test_refusals_are_those_of_one_server(
    cluster: Cluster, path: str, body: Any, method: str, status: int, said: str
) -> None:
    got, answer, _ = cluster.ask(path, body, method)
    assert (got, said in answer["error"]) == (status, True), answer


def test_the_tasks_of_a_replica_that_is_killed_are_answered_by_the_other(cluster: Cluster) -> None:
    import ray

    before, replica = cluster.predict("film", texts=["good film"])
    actor = ray.get_actor(f"SERVE_REPLICA::graftwork#Replica#{replica}", namespace="serve")
    os.kill(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)
    for _ in range(5):
        after, other = cluster.predict("film", texts=["good film"])
        assert other != replica
        assert after[0]["probabilities"] == pytest.approx(before[0]["probabilities"], abs=1e-5)


def test_what_ray_cannot_serve_is_refused_before_it_starts(made: Path, tmp_path: Path) -> None:
    from graftwork.serving.on_ray import deployed

    with (
        pytest.raises(ConfigError, match="--store: on Ray tasks cannot be changed"),
        deployed(Sources((made / "run",), store=tmp_path)),
    ):
        pass
    for words, said in (
        (["--on", "rai"], "it begins with ray"),
        (["--on", "ray", "--admin-token", "x"], "leave --adm"),
    ):
        ran = CliRunner().invoke(app, ["serve", str(made / "run"), *words])
        assert ran.exit_code == 1 and said in ran.stderr
