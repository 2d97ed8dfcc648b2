"""The page on files does what it says: its blocks run in order, in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graftwork.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "files.md").read_text(encoding="utf-8")


def test_its_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    printed, ran = "", []
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE):
        if language == "python":
            exec(compile(text, "docs/files.md", "exec"), {})
            printed = capsys.readouterr().out
        elif language == "sh":
            for line in text.splitlines():
                program, *words = shlex.split(line)
                done = CliRunner().invoke(app, words)
                assert program == "graftwork" and done.exit_code == 0, f"{line}\n{done.output}"
                printed = done.stdout
                ran.append(words[0])
        else:
            for line in text.splitlines():
                assert line in printed, f"{line!r} is not in what the command printed:\n{printed}"
    assert ran == ["inspect", "verify", "convert", "convert", "list", "find"]
    assert [line.split()[1:] for line in printed.splitlines()] == [["graftwork", "2048"], ["peft", "2048"]]
