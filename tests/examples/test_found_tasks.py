"""What a run's finder is measured by: rows of its tasks, texts of none, and what is counted of each."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from graftwork.experiments import Recipe, run
from graftwork.inference import Found
from tests.support.tiny_run import RECIPE, make_tiny

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "found_tasks", raising=False)
    return importlib.import_module("found_tasks")


def found(first: str, *, refused: bool = False) -> Found:
    other = "b" if first == "a" else "a"
    return Found("?", None if refused else first, ((first, 0.9), (other, 0.1)))


def test_the_tables_count_what_is_right_wrong_and_refused(example: ModuleType) -> None:
    told = {
        "a": [found("a"), found("b"), found("a", refused=True)],
        "b": [found("b")],
        "none": [found("a"), found("b", refused=True)],
    }
    assert example.by_task(told, ["a", "b"], 0.2).rows == [
        ["a", "3", "66.7%", "1", "1", "1 of 3"],
        ["b", "1", "100.0%", "1", "0", "0 of 1"],
        ["none", "2", "", "", "1", "1 of 2"],
    ]
    assert example.margins({0.2: told}, ["a", "b"]).rows == [["0.2", "75.0%", "66.7%", "25.0%", "1 of 2"]]


def test_it_measures_a_run(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_tiny(
        tmp_path, "controls = []\n" + RECIPE.replace('targets = ["a"]\n', "").replace("epochs = 3", "epochs = 1")
    )
    run(Recipe.read(recipe), tmp_path / "out", root=tmp_path)
    monkeypatch.setattr(sys, "argv", ["found_tasks.py", str(tmp_path / "out")])
    example.main()
    page = capsys.readouterr().out
    assert "| a | 20 |" in page and "| prompts of no task | 24 |" in page and "| prompts of other tasks | 48 |" in page
