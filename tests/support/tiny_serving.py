"""Small things to serve: a run with a task of every kind that reads words, saved adapters; and a server in a thread to ask."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
from torch import nn
from transformers import AutoModel, AutoTokenizer

import graftwork as gw
from graftwork.experiments import Recipe, run
from graftwork.serving.app import make_app
from graftwork.serving.server import Sources, listening, read_sources, restored
from graftwork.serving.service import Limits, Service
from graftwork.serving.store import Store
from tests.support.tiny_run import make_base
from tests.support.tiny_tasks import ROWS, bert, tokenizer

KINDS = ("classification", "multi_label", "regression", "tagging", "multiple_choice", "question_answering")


def every_kind_run(folder: Path) -> Path:
    """A run with a task of every kind that an encoder answers; ``classification`` has a fusion. A task is called as its kind."""
    return kinds_run(folder, bert(), KINDS, targets=["classification"])


def kinds_run(folder: Path, model: nn.Module, kinds: Sequence[str], *, targets: Sequence[str] = ()) -> Path:
    """A run with tasks of some kinds on a model; a task is called as its kind."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.3)  # so that answers differ from row to row
    model.save_pretrained(folder / "base")  # type: ignore[operator]
    if kinds != ("image_classification",):
        tokenizer().save_pretrained(folder / "base")
    for kind in kinds:
        (folder / kind).mkdir()
        for split in ("train", "dev"):
            (folder / kind / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[kind]))
    recipe = {
        "base": {"model": "base", "max_length": 32},
        "tasks": {kind: {"kind": kind, "data": kind} for kind in kinds},
        "targets": list(targets),
        "controls": [],
        "adapter": {"reduction_factor": 2},
        "training": {"epochs": 1, "batch_size": 2, "learning_rate": 1e-2},
    }
    run(Recipe.make(recipe), folder / "run", root=folder)
    return folder / "run"


def save_adapters(folder: Path, names: Sequence[str], *, seed: int = 0, base: Path | None = None) -> Path:
    """Write adapters with a head of two labels, of random weights, each in a folder of its name; on ``folder / "base"``."""
    base = folder / "base" if base is None else base
    if not base.is_dir():
        make_base(base)
    adapters = gw.attach(gw.ModelWithHeads(AutoModel.from_pretrained(base)))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name in names:
            adapters.add(name, gw.Pfeiffer(reduction_factor=4))
            adapters.add_head(name, gw.heads.Classification(labels=["neg", "pos"]))
            adapters.train_only(name)
            with torch.no_grad():
                for weight in adapters.trainable_parameters():
                    weight.normal_(std=0.3)
            adapters.save(name, folder / "adapters" / name)
            adapters.activate(None)
            adapters.remove(name)
    return folder / "adapters"


def alone(base: Path, adapter: Path, texts: Sequence[str]) -> list[dict[str, float]]:
    """The probabilities of some texts by one adapter, each text by itself."""
    adapters = gw.attach(gw.ModelWithHeads(AutoModel.from_pretrained(base)).eval())
    adapters.activate(adapters.load(adapter, "one", head=True))
    words = AutoTokenizer.from_pretrained(base)
    with torch.no_grad():
        logits = [adapters.model(**words([text], return_tensors="pt")).logits[0] for text in texts]
    return [dict(zip(("neg", "pos"), one.softmax(-1).tolist(), strict=True)) for one in logits]


def alike(one: Any, other: Any) -> None:
    """Equal, numbers to 1e-5."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            alike(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for n, value in enumerate(one):
            alike(value, other[n])
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-5)
    else:
        assert one == other


class Running:
    """A server that runs in a thread."""

    def __init__(self, service: Service, port: int) -> None:
        self.service, self.port = service, port

    def ask(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """The status of an answer, its JSON (text of another form as it is), and its headers."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            sent = {
                "Content-Type": "application/json",
                **{key.replace("_", "-"): value for key, value in headers.items()},
            }
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(text) if is_json else text, dict(answer.headers)

    def predict(self, **asked: Any) -> tuple[int, Any]:
        """The status and the JSON of a prediction."""
        return self.ask("POST", "/v1/predict", asked)[:2]


@contextlib.contextmanager
def serving(
    *folders: Path,
    base: Path | None = None,
    store: Path | None = None,
    admin_token: str | None = None,
    margin: float = 0.2,
    max_resident: int | None = None,
    **limits: Any,
) -> Iterator[Running]:
    """A server of some folders, in a thread, on a port that is free."""
    sources = Sources(folders, None if base is None else str(base), margin=margin, max_resident=max_resident)
    bases, tasks, default = read_sources(sources)
    held: dict[str, Any] = {}
    where: socket.socket = listening("127.0.0.1", 0)
    begun = threading.Event()

    async def main() -> None:
        held["service"] = service = Service(
            bases, tasks, Limits(**limits), store=None if store is None else Store(store), default=default
        )
        await restored(service.table)
        app = make_app(service, admin_token=admin_token)
        held["server"] = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        begun.set()
        await held["server"].serve(sockets=[where])

    def run_in_thread() -> None:
        import asyncio

        asyncio.run(main())

    thread = threading.Thread(target=run_in_thread)
    thread.start()
    try:
        assert begun.wait(30)
        where.listen()
        yield Running(held["service"], where.getsockname()[1])
    finally:
        held["server"].should_exit = True
        thread.join(30)
        where.close()
        assert not thread.is_alive()
