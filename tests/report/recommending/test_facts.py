"""The facts: every figure is in its values, computed ones are what the table gives, recalled ones move nothing."""

from __future__ import annotations

import dataclasses
import re

import pytest

from graftwork.report.recommending import FACTS
from graftwork.report.recommending.case import expected
from graftwork.report.recommending.evidence import literature
from graftwork.report.recommending.facts import ADAPTER_RATIOS, FUSION_RATIO
from graftwork.report.recommending.published import ACCURACY, COLUMNS, MEANS, ROBERTA, mean


@pytest.mark.parametrize("name", FACTS)
def test_no_figure_stands_in_the_words(name: str) -> None:
    fact = FACTS[name]
    assert not re.search(r"\d", re.sub(r"\{[^}]*\}", "", fact.says)), "a figure belongs into values"
    assert fact.text and fact.on
    assert re.fullmatch(r"\d{4}\.\d{5}", fact.paper.arxiv)
    assert fact.paper.arxiv in fact.source
    assert ("recalled, not re-read" in fact.source) == (fact.knowledge == "recalled")
    assert ("computed" in fact.source) == (fact.knowledge == "computed")


def test_a_fact_has_a_figure_for_every_place() -> None:
    with pytest.raises(ValueError, match="places for 1 figures"):
        dataclasses.replace(FACTS["head alone"], values=(1.0,))


def test_what_is_computed_of_the_published_table() -> None:
    assert "+4.5 points above the single adapter on the mean of the 4 tasks" in FACTS["fusion on small tasks"].text
    assert "(RTE +5.78)" in FACTS["fusion on small tasks"].text
    assert "+0.2 points above the single adapter on the mean of the 12 larger" in FACTS["fusion on larger tasks"].text
    for name, values in (("small", (84.2925, 82.1175)), ("larger", (72.9758, 74.0292))):
        assert FACTS[f"together on {name} tasks"].values[:2] == pytest.approx(values, abs=1e-4)
    for name, values in (("small", (80.085, 82.1175)), ("larger", (73.9925, 74.0292))):
        assert FACTS[f"full on {name} tasks"].values[:2] == pytest.approx(values, abs=1e-4)
    assert "CB +3.58, RTE +3.49, MRPC +0.93, and +0.5 on" in FACTS["fusion on small tasks, RoBERTa"].text


def test_the_table_is_whole_and_its_means_are_those_printed() -> None:
    assert set(ROBERTA) == set(ACCURACY) and len(ACCURACY) == 16
    for column, printed in zip(COLUMNS, MEANS, strict=True):
        assert mean(column, ACCURACY) == pytest.approx(printed, abs=0.011), column


def test_slower_by_percent_is_a_ratio() -> None:
    assert pytest.approx((1.0417, 1.0638), abs=1e-4) == ADAPTER_RATIOS
    assert pytest.approx(1 / 0.38) == FUSION_RATIO


def test_what_is_recalled_moves_no_rank() -> None:
    assert {name for name, fact in FACTS.items() if fact.knowledge == "recalled"} == {"pals", "compacter on GLUE"}
    assert expected("a rule", "pal", "for", "text", *literature("pals")).stance == "note"
    assert expected("a rule", "pal", "for", "text", *literature("parallel")).stance == "for"
