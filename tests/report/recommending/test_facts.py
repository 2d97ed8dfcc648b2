"""The facts: where each is from is said, computed figures are what the table gives, recalled ones move nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from graftwork.report.recommending import FACTS
from graftwork.report.recommending.ranking import BOUNDS, FUSED, HIGH, LITERATURE, LOW
from tests.report.recommending.made_up import advice, needs, said
from tests.report.recommending.published import (
    ACCURACY,
    COLUMNS,
    LARGER,
    MEANS,
    ROBERTA,
    SMALL,
    gain,
    mean,
    printed_mean,
    roberta_gain,
)


def written() -> Iterator[tuple[str, str, str, str, str]]:
    """Every fact of the file: name, paper, base and data, how it is known, sentence."""
    for paper, bases in LITERATURE["facts"].items():
        for on, by_knowledge in bases.items():
            for known, facts in by_knowledge.items():
                for name, says in facts.items():
                    yield name, paper, on, known, says


KNOWN = {name: known for name, _, _, known, _ in written()}
FEW, MORE = ("single", SMALL), ("single", LARGER)


@pytest.mark.parametrize(("name", "paper", "on", "known", "says"), [*written()], ids=[name for name, *_ in written()])
def test_a_fact_says_where_it_is_from_and_how_it_is_known(
    name: str, paper: str, on: str, known: str, says: str
) -> None:
    fact = FACTS[name]
    assert fact.says == says and says and on
    assert re.fullmatch(r".*, arXiv:\d{4}\.\d{5}", paper)
    assert fact.source.startswith(f"{paper}; {on}") and fact.basis == "literature"
    assert known in ("found", "computed", "recalled")
    assert ("recalled, not re-read" in fact.source) == (known == "recalled")
    assert ("computed" in fact.source) == (known == "computed")


def test_every_name_is_of_one_fact() -> None:
    assert len([*written()]) == len(FACTS)


def test_what_is_computed_of_the_published_table() -> None:
    above = "{:+.1f} points above the single adapter on the mean of the {} "
    together, full = (
        "reach {:.1f}, single ones {:.1f}, on the {} ",
        "reaches {:.1f}, the single adapter {:.1f}, on the {} ",
    )
    computed = {
        "fusion on small tasks": (
            above + "tasks with fewest rows (RTE {:+.2f})",
            (gain("fusion", "single", SMALL), len(SMALL), gain("fusion", "single", ["RTE"])),
        ),
        "fusion on larger tasks": (above + "larger tasks", (gain("fusion", "single", LARGER), len(LARGER))),
        "fusion on small tasks, RoBERTa": (
            "CB {:+.2f}, RTE {:+.2f}, MRPC {:+.2f}, and {:+.1f} on the mean of all tasks",
            (*(roberta_gain([task]) for task in ("CB", "RTE", "MRPC")), roberta_gain(ROBERTA)),
        ),
        "together on small tasks": (together + "tasks with fewest", (mean("multi", SMALL), mean(*FEW), len(SMALL))),
        "together on larger tasks": (together + "larger tasks", (mean("multi", LARGER), mean(*MORE), len(LARGER))),
        "full on small tasks": (full + "tasks with fewest rows", (mean("full", SMALL), mean(*FEW), len(SMALL))),
        "full on larger tasks": (full + "larger tasks", (mean("full", LARGER), mean(*MORE), len(LARGER))),
    }
    assert {name for name, known in KNOWN.items() if known == "computed"} == set(computed)
    means = {
        "houlsby against pfeiffer": ("placement {:.2f}, Pfeiffer's {:.2f}", map(printed_mean, ("houlsby", "single"))),
        "head alone": ("alone {:.2f}, the single adapter {:.2f}", map(printed_mean, ("head", "single"))),
    }
    for name, (words, values) in {**computed, **means}.items():
        sentence = words.format(*values)
        assert sentence in FACTS[name].says
        numbers = re.findall(r"\d+(?:\.\d+)?", FACTS[name].says)
        assert numbers == re.findall(r"\d+(?:\.\d+)?", sentence), "a figure that is not computed"


def test_what_is_computed_is_printed_so() -> None:
    assert "+4.5 points above the single adapter on the mean of the 4 tasks" in FACTS["fusion on small tasks"].says
    assert "(RTE +5.78)" in FACTS["fusion on small tasks"].says
    assert "+0.2 points above the single adapter on the mean of the 12 larger" in FACTS["fusion on larger tasks"].says
    assert (mean("multi", SMALL), mean(*FEW)) == pytest.approx((84.2925, 82.1175), abs=1e-4)
    assert (mean("multi", LARGER), mean(*MORE)) == pytest.approx((72.9758, 74.0292), abs=1e-4)
    assert (mean("full", SMALL), mean("full", LARGER)) == pytest.approx((80.085, 73.9925), abs=1e-4)
    assert "CB +3.58, RTE +3.49, MRPC +0.93, and +0.5 on" in FACTS["fusion on small tasks, RoBERTa"].says


def test_the_table_is_whole_and_its_means_are_those_printed() -> None:
    assert set(ROBERTA) == set(ACCURACY) and len(ACCURACY) == 16
    for column, printed in zip(COLUMNS, MEANS, strict=True):
        assert mean(column, ACCURACY) == pytest.approx(printed, abs=0.011), column


def test_slower_by_percent_is_a_ratio() -> None:
    assert pytest.approx((1.0417, 1.0638), abs=1e-4) == (LOW, HIGH)
    assert pytest.approx(1 / 0.38) == FUSED


def test_limits_are_compared_with_what_the_facts_say() -> None:
    low, high, fused = BOUNDS["slower"]
    assert f"is {low} to {high} % slower" in FACTS["adapter is slower"].says
    assert f"a fusion of {BOUNDS['timed_pool']} adapters is {fused} % slower" in FACTS["fusion is slower"].says
    assert BOUNDS["paper"] in {paper for _, paper, *_ in written()}


def test_what_is_recalled_moves_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name for name, known in KNOWN.items() if known == "recalled"} == {"pals", "compacter on GLUE"}
    for fact, stance in (("pals", "note"), ("parallel", "for")):
        rule = ("a rule", "quality", {"pal": ["for", "text", fact]})
        monkeypatch.setattr("graftwork.report.recommending.ranking.RULES", [rule])
        assert said(advice(needs()), "a rule")["pal"].stance == stance
