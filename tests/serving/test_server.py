"""What can be served together, and the command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from graftwork.cli import app
from graftwork.errors import CheckpointError, ConfigError, RecipeError
from graftwork.serving.server import Sources, listening, read_sources
from tests.support.tiny_serving import save_adapters


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("command")
    save_adapters(made, ["film", "plot"])
    return made


def test_what_cannot_be_served_is_refused_at_the_start(folder: Path, tmp_path: Path) -> None:
    saved, base = folder / "adapters", str(folder / "base")
    with pytest.raises(ConfigError, match="say which base"):
        read_sources(Sources((saved,)))
    with pytest.raises(ConfigError, match="say which base"):
        read_sources(Sources(()))
    with pytest.raises(ConfigError, match="two tasks are called 'film'"):
        read_sources(Sources((saved, saved / "film"), base))
    with pytest.raises(CheckpointError, match="is no run and holds no saved adapter"):
        read_sources(Sources((tmp_path,), base))
    with pytest.raises(CheckpointError, match="is not there"):
        read_sources(Sources((tmp_path / "none",), base))
    with pytest.raises(RecipeError, match="base"):
        read_sources(Sources((saved,), str(tmp_path)))


def test_a_port_that_is_taken_is_told() -> None:
    with listening("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(ConfigError, match="cannot be listened on"):
            listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ConfigError, match="cannot be listened on"):
        listening("no.such.host.invalid", 0)


def test_a_token_needs_a_store(folder: Path) -> None:
    words = ["serve", str(folder / "adapters"), "--base", str(folder / "base"), "--port", "0", "--admin-token", "x"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 1 and "--store FOLDER" in ran.stderr and not ran.stdout


def start(folder: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """The command in a process of its own, and its address."""
    command = [sys.executable, "-m", "graftwork", "serve", str(folder / "adapters"), "--base", str(folder / "base")]
    process = subprocess.Popen(
        [*command, "--port", "0", *options], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"serving on (http://\S+)", line)
    assert found is not None, line
    return process, found[1]


def asked(address: str, path: str, body: Any = None, method: str = "POST", token: str = "") -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    with urllib.request.urlopen(
        urllib.request.Request(address + path, data, headers, method=method), timeout=30
    ) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def test_killed_and_started_again_nothing_that_was_answered_is_lost(folder: Path) -> None:
    save_adapters(folder / "store", ["one"], seed=5, base=folder / "base")
    options = ("--store", str(folder / "store"), "--admin-token", "secret")
    process, address = start(folder, *options)
    try:
        asked(address, "/v1/tasks/new", {"folder": "adapters/one"}, "PUT", "secret")
        asked(address, "/v1/tasks/plot", None, "DELETE", "secret")
        before = asked(address, "/v1/predict", {"task": "new", "texts": ["good film"]})
    finally:
        process.kill()
        process.wait(30)
    process, address = start(folder, *options)
    try:
        assert [task["name"] for task in asked(address, "/v1/tasks", method="GET")] == ["film", "new"]
        after = asked(address, "/v1/predict", {"task": "new", "texts": ["good film"]})
        assert after["predictions"][0]["probabilities"] == pytest.approx(before["predictions"][0]["probabilities"])
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
