"""Every rule about what is asked for, in both directions."""

from __future__ import annotations

import dataclasses

import pytest

from graftwork.report.recommending import Count
from graftwork.report.recommending.ranking import FUSED, HIGH, LOW
from tests.report.recommending.made_up import BASE, OWN, advice, choice, figure, needs, said, stances

LARGER = {"mnli": 392_702}
EIGHT = {f"s{n}": 50_000 for n in range(7)}  # with the target's own


def test_what_cannot_stand_in_the_base_is_out() -> None:
    base = dataclasses.replace(BASE, counts={**BASE.counts, "pal": Count(why_not="it mixes positions", fits=False)})
    found = advice(needs(), base=base)
    assert stances(found, "stands_in_the_base") == {"pal": "out"}
    assert "it cannot stand in made-up: it mixes positions" in str(said(found, "stands_in_the_base")["pal"])
    assert choice(found, "pal").rank is None
    assert not said(advice(needs()), "stands_in_the_base")


def test_tasks_that_change_ask_for_a_hypernetwork() -> None:
    given = needs(sources=LARGER)
    assert not said(advice(given), "tasks_change")
    found = advice(dataclasses.replace(given, changing=True))
    assert stances(found, "tasks_change") == {
        "hyperformer_plus_plus": "for",
        "together": "against",
        "pal": "against",
        "fusion": "against",
        "scalearn": "against",
        "full": "against",
    }
    reason = str(said(found, "tasks_change")["hyperformer_plus_plus"])
    assert "an embedding of 64 weights" in reason and "[counted: on made-up]" in reason
    assert "0.29 % of the base's weights a task [literature: Hyperformer, arXiv:2106.04489; T5-base, GLUE]" in reason


def test_changing_tasks_move_the_hypernetwork_up() -> None:
    many = {"a": 9000, "b": 9000}
    still, moving = advice(needs(tasks=many)), advice(needs(tasks=many, changing=True))
    before, after = (choice(found, "hyperformer_plus_plus") for found in (still, moving))
    assert after.votes == before.votes + 1
    assert after.rank is not None and before.rank is not None and after.rank < before.rank


def test_a_limit_of_weights_puts_out_what_is_above_it() -> None:
    assert not said(advice(needs()), "weights_are_limited")
    limit = OWN["houlsby"]
    found = advice(needs(weights_a_task=limit, sources=LARGER))
    for key, count in BASE.counts.items():
        weights = count.a_task(2)
        stood = [r.stance for r in choice(found, key).reasons if r.rule == "weights_are_limited"]
        assert stood[0] == ("meets" if weights is not None and weights <= limit else "out"), key
    assert (choice(found, "houlsby").rank, choice(found, "bottleneck").rank) == (choice(found, "pfeiffer").rank, None)
    first = next(r for r in choice(found, "bottleneck").reasons if r.rule == "weights_are_limited")
    assert str(first) == f"{OWN['bottleneck']:,d} weights a task, above the limit of {limit:,d} [counted: on made-up]"
    assert "0.047 %" in str(said(found, "weights_are_limited")["compacter_plus_plus"])


def test_a_limit_of_weights_says_where_it_could_not_count() -> None:
    base = dataclasses.replace(BASE, counts={**BASE.counts, "lora": Count(why_not="no room")})
    found = advice(needs(weights_a_task=10**9), base=base)
    reason = said(found, "weights_are_limited")["lora"]
    assert reason.stance == "note" and "not counted (no room)" in reason.text
    assert choice(found, "lora").rank is not None


@pytest.mark.parametrize(
    ("limit", "stance"),
    [(1.0, "against"), (1.05, "note"), (1.1, "meets")],
)
def test_a_limit_of_time_against_what_was_timed_of_adapters(limit: float, stance: str) -> None:
    assert not said(advice(needs()), "time_is_limited")
    found = stances(advice(needs(latency=limit)), "time_is_limited")
    assert {found[key] for key in ("pfeiffer", "houlsby", "compacter")} == {stance}
    assert {found[key] for key in ("lora", "full", "head")} == {"meets"}
    assert found["parallel"] == "note", "no figure of a parallel adapter's time is known"
    assert LOW < 1.05 < HIGH


@pytest.mark.parametrize(
    ("limit", "sources", "stance"),
    [
        (1.01, LARGER, "against"),
        (1.5, LARGER, "note"),
        (3.0, LARGER, "meets"),
        (1.5, EIGHT, "against"),
        (3.0, EIGHT, "meets"),
        (3.0, {**EIGHT, "more": 50_000}, "note"),
    ],
)
def test_a_limit_of_time_against_what_was_timed_of_fusions(limit: float, sources: dict[str, int], stance: str) -> None:
    assert 1.5 < FUSED < 3.0
    assert stances(advice(needs(sources=sources, latency=limit)), "time_is_limited")["fusion"] == stance


def test_a_slow_fusion_is_told_of_pruning() -> None:
    reason = str(said(advice(needs(sources=EIGHT, latency=1.5)), "time_is_limited")["fusion"])
    assert "a fusion of 8 adapters is 62 % slower" in reason and "is 68 % faster at comparable scores" in reason


def test_times_of_ones_own_take_the_place_of_those_timed_elsewhere() -> None:
    own = [figure("head", 0.5, milliseconds=10.0), figure("pfeiffer", 0.7, milliseconds=12.0)]
    for limit, stance, rank in ((1.1, "out", None), (1.3, "meets", 1)):
        found = advice(needs(latency=limit), *own)
        reason = said(found, "time_is_limited")["pfeiffer"]
        assert (reason.stance, choice(found, "pfeiffer").rank) == (stance, rank)
        assert "12.00 ms a row, the bare model 10.00 ms: 1.20 times" in str(reason)
        assert [one.basis for one in reason.evidence] == ["measured here"]
        assert [one.basis for one in said(found, "time_is_limited")["houlsby"].evidence] == ["literature"]


def test_a_base_that_stays_puts_out_what_trains_it() -> None:
    tasks = {"tasks": {"a": 9000}}
    found = advice(needs(keep_base=True, **tasks))
    assert stances(found, "base_stays") == {"pal": "out", "full": "out"}
    assert choice(found, "full").rank is None
    assert not said(advice(needs(**tasks)), "base_stays") and choice(advice(needs(**tasks)), "full").rank is not None


def test_what_must_not_be_forgotten_is_against_shared_weights() -> None:
    found = advice(needs(keep_old=True))
    assert set(stances(found, "nothing_is_forgotten").values()) == {"against"}
    assert set(stances(found, "nothing_is_forgotten")) == {"hyperformer_plus_plus", "together", "pal", "full"}
    assert not said(advice(needs()), "nothing_is_forgotten")
