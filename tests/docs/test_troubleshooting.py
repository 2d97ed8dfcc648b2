"""Troubleshooting: the code of each entry raises the message that the page shows, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import graftwork as gw

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ENTRY = re.compile(
    r"^### (.+?)\n\n```python raises\n(.*?)^```\n\n```text\n(.*?)^```\n\n(\S.*?)$", re.DOTALL | re.MULTILINE
)


def test_each_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, object] = {}
    (setup,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(setup, known)
    entries = ENTRY.findall(PAGE)
    assert len(entries) == PAGE.count("\n### ") == PAGE.count("```python raises") > 20
    for title, code, message, _ in entries:
        with pytest.raises(gw.GraftworkError) as raised:
            exec(code, known)
        said = f"{type(raised.value).__name__}: {raised.value}".replace(str(tmp_path), "...")
        assert said == message.rstrip(), title
