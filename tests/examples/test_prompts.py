"""The two examples around tasks of one hypernetwork: the prompts' table counts right, and a new task leaves the others alone."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from graftwork.inference import Found

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("tasks", "prompts", "new_task"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(str(request.param))


def test_no_prompt_is_asked_that_describes_a_task() -> None:
    written = json.loads((EXAMPLES / "data" / "prompts.json").read_text(encoding="utf-8"))
    described = [text for task in written["tasks"].values() for text in task["describe"]]
    asked = [text for task in written["tasks"].values() for text in task["ask"]] + written["off_topic"]
    assert len({*described, *asked}) == len(described) + len(asked)
    assert {len(task["ask"]) for task in written["tasks"].values()} == {8}


@pytest.mark.parametrize("example", ["prompts"], indirect=True)
def test_the_table_counts_what_is_right_wrong_and_refused(example: ModuleType) -> None:
    def found(first: str, near: float, lead: float) -> Found:
        other = "b" if first == "a" else "a"
        return Found("?", first, ((first, near), (other, near - lead)))

    asked = [("a", found("a", 0.9, 0.5)), ("a", found("b", 0.9, 0.06)), ("b", found("b", 0.2, 0.15))]
    off = [found("a", 0.25, 0.04), found("b", 0.25, 0.3)]
    cells = {(row[0], row[1]): row[2:] for row in example.table("model", asked, off).rows}
    assert cells["0", "0"] == ["2 of 3", "1", "0", "67%", "0 of 2"]
    assert cells["0.1", "0"] == ["2 of 3", "0", "1", "100%", "1 of 2"]
    assert cells["0.05", "0.3"] == ["1 of 3", "1", "1", "50%", "2 of 2"]
    assert cells["0.2", "0.3"] == ["1 of 3", "0", "2", "100%", "2 of 2"]


@pytest.mark.slow
@pytest.mark.parametrize("example", ["new_task"], indirect=True)
def test_a_new_task_changes_nothing_of_the_others(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "--rows 24 --target-rows 12 --dev 12 --epochs 1 --target-epochs 1 --seeds 2"
    monkeypatch.setattr(sys, "argv", ["new_task.py", *small.split()])
    example.main()
    page = capsys.readouterr().out
    assert "the same to the bit" in page
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows[-4:]] == ["majority class", *example.WAYS]
    assert [row[-1].strip("| ") for row in rows[-3:]][:2] == ["0", "64"]
