"""The parts of the page that show predictions: labels and their confusion, rows that changed, tokens; and bars."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import graftwork.report.sections
from graftwork.report.changed_rows import changed_tables
from graftwork.report.labels import label_table
from graftwork.report.page import page
from graftwork.report.run_data import Gathered, without_texts
from graftwork.report.score_bars import score_bars
from graftwork.report.tokens import token_attention
from tests.report.made_up import RECIPE, UNITS, evidence_of, results_of
from tests.report.test_page import Outline

NAMES = {"fusion": "fusion of all 3", "adapter": "single adapter"}
TOKENS = {"tokens": ["<i>the</i>", "plot", " "], "weights": [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [1 / 3, 1 / 3, 1 / 3]]}


@pytest.fixture
def found(tmp_path: Path) -> Gathered:
    (tmp_path / "recipe.json").write_text(json.dumps({"targets": ["rte", "mrpc"]}))
    results = results_of(UNITS)
    for unit in results["units"]:
        if unit["kind"] == "fusion":
            unit["attention"] = {**unit["attention"], "examples": [TOKENS]}
    return Gathered(tmp_path, RECIPE, UNITS, results, evidence=evidence_of(0.05, 0.03, results["targets"]))


def known(found: Gathered) -> dict[str, Any]:
    return found.known[0]


def test_scores_by_label_are_those_of_the_counts(found: Gathered) -> None:
    table = label_table(known(found), NAMES)
    # of 50 rows answered "no" 30 are right, of 40 that are "no" 30 were found
    assert table.columns == ["label", "trained", "% of rows", "precision", "recall", "F1"]
    assert table.rows == [
        ["no", "fusion of all 3", "40.0", "60.0", "75.0", "66.7"],
        ["no", "single adapter", "40.0", "100.0", "50.0", "66.7"],
        ["yes", "fusion of all 3", "60.0", "80.0", "66.7", "72.7"],
        ["yes", "single adapter", "60.0", "75.0", "100.0", "85.7"],
    ]


def test_rows_that_became_right_and_wrong(found: Gathered) -> None:
    better, worse = changed_tables(known(found), NAMES)
    assert better.title == "rte, from wrong to right: 1 of 277 rows"
    assert better.rows == [["7", "a <b>long</b> text", "yes", "no"]]
    assert worse.title == "rte, from right to wrong: 0 of 277 rows" and worse.notes == ["There is none."]


def test_a_kind_without_right_answers_has_neither(found: Gathered) -> None:
    assert changed_tables({**known(found), "gained": None}, NAMES) == []


def test_a_token_has_the_colour_of_the_adapter_with_most_of_its_attention(found: Gathered) -> None:
    seen = token_attention(found.results, "rte", "fusion")
    assert seen is not None
    the, plot, blank = seen.rows[0]
    assert (the.adapter, plot.adapter) == (0, 1) and the.strength >= plot.strength > blank.strength
    assert blank.text == "␣" and "0.80" in the.weights
    assert token_attention(found.results, "rte", "own") is None


def test_all_of_it_is_on_the_page_and_is_text(found: Gathered) -> None:
    text = page(found)
    outline = Outline(text)
    assert not outline.open and "<i>" not in text and "<b>" not in text
    assert "&lt;i&gt;the&lt;/i&gt;" in text and "a &lt;b&gt;long&lt;/b&gt; text" in text
    heads = " ".join(outline.heads)
    assert "rte: scores by label" in heads and "rte, from wrong to right" in heads
    assert '<div class="verdict better">' in text and '<div class="verdict not">' in text
    assert ">confusion of labels" not in text and 'aria-label="rte: confusion of labels"' in text


def test_texts_can_be_left_out(found: Gathered) -> None:
    text = page(without_texts(found))
    assert "long" not in text and 'class="tokens"' not in text
    assert "rte, from wrong to right: 1 of 277 rows" in text


def test_a_run_without_predictions_has_no_such_parts(found: Gathered) -> None:
    text = page(dataclasses.replace(found, evidence=None, unknown="the data are not there"))
    assert "scores by label" not in text and "from wrong to right" not in text
    assert "Why: the data are not there" in text


def test_bars_have_a_dot_for_each_seed_and_an_interval(found: Gathered) -> None:
    pytest.importorskip("matplotlib")
    (rte, _) = found.scored
    (ax,) = score_bars(rte.rows, rte.metric, known(found), "scores").axes
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([71.0] * len(rte.rows))
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[pytest.approx(70), pytest.approx(72)]] * len(rte.rows)
    lines = [line for line in ax.lines if line.get_marker() == "|"]
    assert list(lines[0].get_xdata()) == [pytest.approx(60), pytest.approx(80)]
    (bare,) = score_bars(rte.rows, rte.metric, None, "scores").axes
    assert len(bare.lines) == len(rte.rows)


def test_a_page_of_a_large_run_has_so_many_pictures(found: Gathered, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    whole = page(found)
    monkeypatch.setattr(graftwork.report.sections, "MOST_PICTURES", 3)
    text = page(found)
    count = whole.count("<svg ")
    assert text.count("<svg ") == 3 < count and f"{count - 3} more are not on this page" in text
    assert "Where the fusion for rte looks" in text and "rte: scores by label" in text  # as numbers
    assert "not on this page" not in whole
