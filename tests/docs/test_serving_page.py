"""The commands of the page on serving: those that start a server are such, and those that ask one are answered."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from graftwork.cli import app
from tests.support.tiny_serving import save_adapters, serving

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
STARTING, ASKING, CHANGING, ON_RAY = (block.splitlines() for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))


def test_its_commands_are_such() -> None:
    command = typer.main.get_command(app)
    for line in (*STARTING, *ON_RAY[1:]):  # the first of the latter installs it
        program, name, *words = shlex.split(line)
        assert program == "graftwork"
        command.commands[name].make_context(name, words)  # type: ignore[attr-defined]  # it is a group


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_its_requests_are_answered(tmp_path: Path) -> None:
    save_adapters(tmp_path, ["film", "plot"])
    save_adapters(tmp_path / "more", ["actor"], base=tmp_path / "base")
    store = tmp_path / "more" / "adapters"
    found = []
    with serving(tmp_path / "adapters", base=tmp_path / "base", store=store, admin_token="SECRET") as running:
        for line in (*ASKING, *CHANGING):
            words = shlex.split(line.replace("localhost:8080", f"127.0.0.1:{running.port}"))
            found.append(
                subprocess.run([*words, "--fail"], capture_output=True, text=True, check=True, timeout=60).stdout
            )
    one, two, both, tasks, health, metrics, added, by_new, removed = found
    assert [len(json.loads(text)["predictions"]) for text in (one, two, both, by_new)] == [1, 2, 1, 1]
    assert list(json.loads(both)["predictions"][0]) == ["film", "plot"]
    assert [task["name"] for task in json.loads(tasks)] == ["film", "plot"] and json.loads(health)["tasks"] == 2
    assert "graftwork_requests_total" in metrics and json.loads(added)["name"] == "actor" and removed == ""
