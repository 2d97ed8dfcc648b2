"""Every rule about data and about what was measured, in both directions."""

from __future__ import annotations

import pytest

from graftwork.report.recommending import FACTS
from tests.report.recommending.made_up import advice, choice, figure, leaders, needs, said, stances

LARGER = {"mnli": 392_702}
SMALLER = {"cb": 250}


@pytest.mark.parametrize(("rows", "fires"), [(2_490, True), (4_999, True), (5_000, False), (67_349, False)])
def test_a_small_target_with_larger_sources(rows: int, fires: bool) -> None:
    found = advice(needs(rows, LARGER))
    expected = ("fusion", "scalearn", "together", "hyperformer_plus_plus", "intermediate") if fires else ()
    assert stances(found, "small_target_with_larger_sources") == dict.fromkeys(expected, "for")
    if fires:
        reason = str(said(found, "small_target_with_larger_sources")["fusion"])
        assert reason.startswith(
            f"t has {rows:,d} rows, fewer than 5,000 (a bin of AdapterFusion, arXiv:2005.00247), and mnli more: "
        )
        assert FACTS["fusion on small tasks"].says in reason and "BERT-base" in reason
    assert not said(advice(needs(rows)), "small_target_with_larger_sources")
    assert not said(advice(needs(rows, SMALLER)), "small_target_with_larger_sources")


def test_scales_are_above_attention_on_a_small_target_and_not_told_apart_on_a_large_one() -> None:
    assert stances(advice(needs(2_490, LARGER)), "scales_against_attention") == {"scalearn": "for"}
    large = advice(needs(67_349, LARGER))
    assert stances(large, "scales_against_attention") == {"scalearn": "note"}
    assert "not enough to tell" in said(large, "scales_against_attention")["scalearn"].text
    assert not said(advice(needs(2_490)), "scales_against_attention")


def test_a_small_target_with_a_large_source_ends_with_scalearn() -> None:
    found = advice(needs(2_490, LARGER))
    assert [c.candidate.key for c in leaders(found)] == ["scalearn"]
    assert found.conclusion == (
        "ScaLearn stands first, by published figures and counts, of other bases and data; figures of your own would decide"
    )


def test_without_sources_there_is_nothing_to_combine() -> None:
    found = advice(needs())
    assert stances(found, "no_sources") == {"fusion": "against", "scalearn": "against", "intermediate": "out"}
    assert choice(found, "intermediate").rank is None
    with_sources = advice(needs(sources=SMALLER))
    assert not said(with_sources, "no_sources") and choice(with_sources, "intermediate").rank is not None


def test_of_smaller_sources_nothing_is_known() -> None:
    found = advice(needs(sources=SMALLER))
    assert stances(found, "no_larger_source") == {"fusion": "note", "scalearn": "note", "intermediate": "note"}
    assert "not enough to tell" in said(found, "no_larger_source")["fusion"].text
    assert not said(advice(needs(sources={**SMALLER, **LARGER})), "no_larger_source")
    assert not said(advice(needs()), "no_larger_source")


def test_a_large_target_has_one_adapter() -> None:
    found = stances(advice(needs(67_349, LARGER)), "larger_target")
    assert found["fusion"] == "against" and found["pfeiffer"] == found["lora"] == "note"
    assert found["together"] == "against" and found["full"] == "note"
    middle = stances(advice(needs(40_000, LARGER)), "larger_target")
    assert middle == {"fusion": "note", "together": "against", "full": "note"}
    assert not said(advice(needs(4_999, LARGER)), "larger_target")
    assert choice(advice(needs(67_349, LARGER)), "fusion").votes < choice(advice(needs(40_000, LARGER)), "fusion").votes


def test_few_rows_are_against_full_fine_tuning() -> None:
    assert stances(advice(needs(4_999)), "small_target_alone") == {"full": "against"}
    assert not said(advice(needs(5_000)), "small_target_alone")


def test_hardly_any_rows_warn_of_a_fusion() -> None:
    found = advice(needs(249, LARGER))
    assert stances(found, "hardly_any_rows") == {"fusion": "against"}
    assert "fewer than the 250 of the smallest task with a figure" in said(found, "hardly_any_rows")["fusion"].text
    assert not said(advice(needs(250, LARGER)), "hardly_any_rows")


def test_one_task_shares_nothing_unless_others_come() -> None:
    found = advice(needs())
    stood = stances(found, "one_task")
    assert {stood[key] for key in ("hyperformer_plus_plus", "together", "pal")} == {"out"}
    assert {stood[key] for key in ("pfeiffer", "houlsby", "compacter", "lora", "parallel")} == {"note"}
    for other in (needs(tasks={"u": 9}), needs(sources=LARGER), needs(changing=True)):
        assert not said(advice(other), "one_task")
        assert choice(advice(other), "hyperformer_plus_plus").rank is not None


def test_texts_that_are_written_ask_for_parallel_adapters() -> None:
    found = advice(needs(kind="text_to_text"))
    assert stances(found, "texts_are_written") == {"parallel": "for"}
    assert [c.candidate.key for c in leaders(found)] == ["parallel"]
    for kind in ("classification", None):
        assert not said(advice(needs(kind=kind)), "texts_are_written")


def test_what_is_known_of_methods_whatever_the_task() -> None:
    assert stances(advice(needs()), "standing_of_methods") == {
        "head": "against",
        "pfeiffer": "note",
        "houlsby": "note",
        "compacter": "note",
        "compacter_plus_plus": "note",
        "pal": "note",
        "hyperformer_plus_plus": "against",
    }


def test_figures_of_ones_own_say_what_is_clearly_above_what() -> None:
    found = advice(needs(), figure("pfeiffer", 0.80), figure("houlsby", 0.70), figure("lora", 0.805))
    assert stances(found, "own_figures") == {"pfeiffer": "for", "houlsby": "against", "lora": "for"}
    assert said(found, "own_figures")["houlsby"].text == "clearly below pfeiffer, lora"
    assert "accuracy 80.0 % ± 1.0" in str(said(found, "own_figures")["pfeiffer"])
    assert not said(advice(needs(), figure("pfeiffer", 0.8, task="other")), "own_figures")


def test_a_fusion_is_held_against_its_controls() -> None:
    own = figure("own", 0.70, label="fusion of own alone")
    gains = advice(needs(sources=LARGER), figure("fusion", 0.80), own)
    assert stances(gains, "gain_of_the_sources") == {"fusion": "for"}
    same = advice(needs(sources=LARGER), figure("fusion", 0.71), own)
    reason = said(same, "gain_of_the_sources")["fusion"]
    assert reason.stance == "note" and "not clearly above the fusion of own alone: not enough to tell" in reason.text
    assert len(reason.evidence) == 2
    assert not said(advice(needs(sources=LARGER), figure("fusion", 0.80)), "gain_of_the_sources")
    assert "own" not in {c.candidate.key for c in gains.choices}, "a control is nothing to choose"
