"""The verdict in words: its three outcomes, what it says of how sure it is, and where it is not known."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from graftwork.report import print_tables
from graftwork.report.run_data import Gathered
from graftwork.report.verdict import summary, verdicts
from tests.report.made_up import RECIPE, UNITS, comparison_of, evidence_of, results_of

RESULTS = results_of(UNITS)


def of(value: float, half: float) -> Gathered:
    return Gathered(Path("run"), RECIPE, UNITS, RESULTS, evidence=evidence_of(value, half, RESULTS["targets"]))


@pytest.mark.parametrize(
    ("value", "half", "word", "sentence"),
    [
        (0.05, 0.03, "better", "rte: fusion of all 3 is better than single adapter."),
        (0.02, 0.03, "cannot be told apart", "rte: fusion of all 3 cannot be told apart from single adapter."),
        (-0.05, 0.03, "worse", "rte: fusion of all 3 is worse than single adapter."),
    ],
)
def test_it_is_better_worse_or_cannot_be_told_apart(value: float, half: float, word: str, sentence: str) -> None:
    rte, _ = verdicts(of(value, half))
    assert (rte.word, rte.sentence) == (word, sentence)


def test_it_says_by_how_much_and_how_sure() -> None:
    rte, _ = verdicts(of(0.05, 0.03))
    assert rte.reasons == [
        "accuracy 71.0 against 71.0: +5.0 [+2.0, +8.0] points (95 % interval), p < 0.001.",
        "By seed: +6.0, +4.0; above 0 in 2 of 2 seeds.",
        "Paired bootstrap: 10,000 draws of 277 dev rows, the same for both, of the mean over 2 seeds; the noise of training is "
        "in it only as far as they average it out. The dev rows also chose the best epoch.",
    ]
    assert rte.table is not None
    others = [row["kind"] for row in RESULTS["targets"] if row["task"] == "rte" and row["kind"] != "fusion"]
    assert len(rte.table.rows) == len(others) and rte.table.rows[0][1:] == ["+5.0 [+2.0, +8.0]", "better", "< 0.001"]


def test_one_seed_is_said() -> None:
    found = of(0.02, 0.03)
    assert found.evidence is not None
    found.evidence["targets"][0] |= {"seeds": [0], "by_seed": [0.02]}
    reasons = verdicts(found)[0].reasons
    assert reasons[0].startswith("accuracy 70.0 against 70.0: ")  # of that seed alone
    assert (
        reasons[1] == "One seed: the interval has the noise of the rows, not that of training. Give two seeds or more."
    )
    assert "seeds" not in reasons[2]


def test_folds_are_said() -> None:
    found = of(0.02, 0.03)
    assert found.evidence is not None
    found.evidence["targets"][0]["folds"] = 5
    assert "Cross-validation in 5 folds" in verdicts(found)[0].reasons[2]


def test_a_target_that_is_not_known_says_why() -> None:
    found = Gathered(Path("run"), RECIPE, UNITS, RESULTS, unknown="data/rte is not there")
    rte, mrpc = verdicts(found)
    assert rte.word == mrpc.word == "not known" and rte.reasons == ["Why: data/rte is not there"]


def test_several_targets_are_counted() -> None:
    assert summary(verdicts(of(0.05, 0.03))) == "Of 2: better: 1, not known: 1."
    assert summary(verdicts(of(0.05, 0.03))[:1]) == ""


def test_methods_of_a_comparison_are_judged_against_full_fine_tuning() -> None:
    found = Gathered(Path("run"), RECIPE, UNITS, RESULTS, comparison_of())
    words = {one.sentence: one.word for one in verdicts(found)}
    assert words["all targets: head only is worse than full fine-tuning."] == "worse"
    assert words["all targets: houlsby cannot be told apart from full fine-tuning."] == "cannot be told apart"
    assert len(words) == 4


def test_the_terminal_says_it_first() -> None:
    out = StringIO()
    print_tables(of(0.05, 0.03), Console(file=out))
    assert out.getvalue().startswith(
        "rte: fusion of all 3 is better than single adapter.\n  accuracy 71.0 against 71.0"
    )
    assert "rte: scores by label" in out.getvalue()
