"""The example of two knowledge adapters, in small."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "k_adapter.py"


def test_it_prints_a_row_for_each_composition(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    spec = importlib.util.spec_from_file_location("k_adapter_example", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr("sys.argv", ["k_adapter.py", "--steps", "2", "--seeds", "1"])
    example.main()
    printed = capsys.readouterr().out
    for row in example.COMPOSITIONS:
        assert f"| {row} | " in printed
    assert "bit for bit" in printed
