"""The user's own figures: read of a run's results, and held against noise."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftwork.errors import RecipeError
from graftwork.report.recommending import read_figures
from tests.report.recommending.made_up import figure, result_row, write_run


def test_rows_become_figures_of_candidates(tmp_path: Path) -> None:
    rows = [
        result_row("head", 0.5),
        result_row("full", 0.6),
        result_row("adapter", 0.7),
        result_row("method", 0.71, method="compacter"),
        result_row("method", 0.72, method="wide"),
        result_row("method", 0.72, method="skip_bottleneck"),
        result_row("average", 0.65, members=["a", "b"]),
        result_row("fusion", 0.75, None),
        result_row("scalearn", 0.76),
    ]
    run = write_run(tmp_path / "run", rows)
    found = read_figures(run)
    assert [f.method for f in found] == [
        "head",
        "full",
        "pfeiffer",
        "compacter",
        "wide",
        "bottleneck",
        "average",
        "fusion",
        "scalearn",
    ]
    assert [f.label for f in found][3:8] == [
        "Compacter",
        "wide",
        "Bottleneck with a skip",
        "uniform mean of 2",
        "AdapterFusion",
    ]
    pfeiffer, fusion = found[2], found[7]
    assert (pfeiffer.mean, pfeiffer.sd, pfeiffer.seeds, pfeiffer.milliseconds) == (0.7, 0.01, 3, 10.0)
    assert str(pfeiffer.evidence) == (
        f"t: accuracy 70.0 % ± 1.0, 1,000 weights trained [measured here: run {run}, base bert, 3 seeds]"
    )
    assert str(fusion.evidence) == (
        f"t: accuracy 75.0 %, 1,000 weights trained [measured here: run {run}, base bert, 1 seed]"
    )


def test_the_adapter_is_the_recipes_method(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [result_row("adapter", 0.7)], {"method": "parallel"})
    assert [f.method for f in read_figures(run)] == ["parallel"]


def test_the_same_method_twice_stands_twice(tmp_path: Path) -> None:
    rows = [result_row("adapter", 0.7), result_row("adapter", 0.6), result_row("adapter", 0.5)]
    found = read_figures(write_run(tmp_path / "run", rows))
    assert [(f.method, f.label) for f in found] == [
        ("pfeiffer", "Pfeiffer"),
        ("pfeiffer #2", "Pfeiffer #2"),
        ("pfeiffer #3", "Pfeiffer #3"),
    ]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is no folder of a run"):
        read_figures(tmp_path)
    run = write_run(tmp_path / "run", [])
    (run / "results.json").unlink()
    with pytest.raises(RecipeError, match=r"has no results\.json yet"):
        read_figures(run)


def test_results_that_lack_something_say_what(tmp_path: Path) -> None:
    row = {key: value for key, value in result_row("adapter", 0.7).items() if key != "trained_weights"}
    run = write_run(tmp_path / "run", [row])
    with pytest.raises(RecipeError, match=r"targets\.0\.trained_weights: Field required"):
        read_figures(run)


def test_clearly_above_is_beyond_both_standard_deviations() -> None:
    assert figure("a", 0.80, 0.01).clearly_above(figure("b", 0.77, 0.01))
    assert not figure("a", 0.80, 0.01).clearly_above(figure("b", 0.785, 0.01))
    assert not figure("b", 0.77, 0.01).clearly_above(figure("a", 0.80, 0.01))
    assert not figure("a", 0.80, None).clearly_above(figure("b", 0.10, 0.01)), "one seed tells nothing"
    assert not figure("a", 0.80, 0.01).clearly_above(figure("b", 0.10, None))
