"""The page on sharing does what it says: its code runs against a Hub on loopback, its commands are such."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import transformers
import typer

from graftwork.cli import app
from tests.support.hub_server import TOKEN, Hub, hub_server
from tests.support.tiny_run import make_base

PAGE = (Path(__file__).parents[2] / "docs" / "sharing.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def executed(code: str, folder: Path, hub: Hub, **settings: str) -> str:
    """What code prints in a new process, which knows the Hub by the environment alone."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    client = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    environment = {**known, "TRANSFORMERS_OFFLINE": "0", **client, **settings}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_its_code(tmp_path: Path) -> None:
    make_base(tmp_path / "encoder")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "encoder")
    base.save_pretrained(tmp_path / "base")
    with hub_server() as hub:
        hub.put("google-bert/bert-base-uncased", tmp_path / "base")
        printed = executed("\n".join(CODE), tmp_path, hub)
        assert f"{hub.url}/your-org/bert-mrpc/commit/" in printed
        assert {"your-org/bert-mrpc", "your-org/bert-both"} < hub.repositories.keys()
        card = hub.files("your-org/bert-mrpc")["README.md"].decode()
        assert "| accuracy | dev | 0.861 | 0.004 | 0, 1, 2 |" in card and "license: apache-2.0" in card
        hub.clear()
        load = "\n".join([CODE[0].partition("model =")[0], CODE[2].partition('adapters.load("your-org/bert-mrpc')[0]])
        executed(load + "assert adapters.active.name == 'both'", tmp_path, hub, HF_HUB_OFFLINE="1")
        assert hub.requests == []


def test_its_commands() -> None:
    (text,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    group = typer.main.get_command(app)
    for line in text.splitlines():
        _, name, *words = shlex.split(line)
        group.commands[name].make_context(name, words)  # type: ignore[attr-defined]  # a group has commands
