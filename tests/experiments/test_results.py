"""Reading what a run has written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graftwork.errors import RecipeError
from graftwork.experiments import read_results
from graftwork.experiments.running.folder import read_result
from tests.report.made_up import UNITS, results_of, unit_result


def test_results_are_read_of_a_path_or_its_name(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(results_of(UNITS)))
    assert read_results(tmp_path) == read_results(str(tmp_path)) == results_of(UNITS)


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has no results"):
        read_results(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": "0.7"}, "score: Input should be a valid number"),
        ({"score": float("nan")}, "score: Input should be a finite number"),
        ({"file_bytes": 10**400}, "file_bytes: Input should be less than"),
        ({"best_epoch": 3}, "best_epoch is 3 and the curve has 2 scores"),
        ({"kind": "adaptor"}, "kind: 'adaptor' is no kind of training"),
        ({"kind": "head"}, r"it is not that of adapter/rte/0"),
    ],
)
def test_a_result_that_cannot_be_one_says_where(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    unit = next(unit for unit in UNITS if unit.id == "adapter/rte/0")
    path = unit.folder(tmp_path) / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**unit_result(unit, 0.7), **change}))
    with pytest.raises(RecipeError, match=rf"adapter/rte/0/result\.json is damaged \({said}.*--redo"):
        read_result(unit, tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00", '{"score": ' + "9" * 5000 + "}"])
def test_a_result_that_is_no_json_says_so(tmp_path: Path, text: str) -> None:
    path = UNITS[0].folder(tmp_path) / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(RecipeError, match="is damaged"):
        read_result(UNITS[0], tmp_path)
