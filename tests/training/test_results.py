"""Reading what a run has written."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftwork.errors import RecipeError
from graftwork.training import read_results


def test_results_are_read_of_a_path_or_its_name(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"targets": []}')
    assert read_results(tmp_path) == read_results(str(tmp_path)) == {"targets": []}


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has no results"):
        read_results(str(tmp_path))
