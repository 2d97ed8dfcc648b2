"""From reasons to ranks: the user's own figures first, noise heeded, nothing told apart that is not."""

from __future__ import annotations

from tests.report.recommending.made_up import OWN, advice, choice, figure, leaders, needs

LARGER = {"mnli": 392_702}


def ranks(found, *keys: str) -> list[int | None]:  # type: ignore[no-untyped-def]
    return [choice(found, key).rank for key in keys]


def test_the_literature_leaves_adapters_of_one_task_together_by_weights() -> None:
    found = advice(needs())
    first = [c.candidate.key for c in leaders(found)]
    assert first == sorted(
        ("pfeiffer", "houlsby", "bottleneck", "parallel", "compacter", "compacter_plus_plus", "lora"),
        key=OWN.__getitem__,
    )
    assert found.conclusion == ""
    (unclear,) = found.unclear
    assert unclear.startswith("not enough to tell between Pfeiffer, Houlsby")
    assert unclear.endswith("no reason separates them; the fewest weights stand first")


def test_a_rank_is_one_more_than_the_number_of_those_above() -> None:
    found = advice(needs(2_490, LARGER))
    votes = [c.votes for c in found.choices if c.rank is not None]
    assert votes == sorted(votes, reverse=True)
    assert [c.rank for c in found.choices if c.rank is not None] == [1 + sum(o > v for o in votes) for v in votes]


def test_what_is_out_stands_last() -> None:
    found = advice(needs(weights_a_task=2_000_000, keep_base=True))
    out = [c.rank is None for c in found.choices]
    assert out == sorted(out) and any(out) and not all(out)


def test_two_figures_of_ones_own_come_before_the_literature() -> None:
    found = advice(needs(2_490, LARGER), figure("houlsby", 0.80), figure("head", 0.60))
    assert ranks(found, "houlsby", "head") == [1, 2]
    assert choice(found, "scalearn").rank == 3, "what was not measured follows"
    assert found.conclusion == "Houlsby stands first, by your own figures"
    assert not any(r.rule == "standing_of_methods" for r in choice(found, "head").reasons), "the literature gives way"
    assert any(r.rule == "standing_of_methods" for r in choice(found, "pfeiffer").reasons)


def test_means_within_the_noise_are_not_told_apart() -> None:
    found = advice(needs(), figure("houlsby", 0.800), figure("pfeiffer", 0.805), figure("lora", 0.7))
    assert ranks(found, "pfeiffer", "houlsby", "lora") == [1, 1, 3]
    assert [c.candidate.key for c in found.choices][:2] == ["pfeiffer", "houlsby"], "the higher mean stands first"
    assert found.unclear == (
        "not enough to tell between Pfeiffer, Houlsby: their means are no further apart than their standard deviations; "
        "the higher mean stands first",
    )


def test_one_seed_is_not_enough_to_tell() -> None:
    found = advice(needs(), figure("houlsby", 0.9, None), figure("pfeiffer", 0.5, None))
    assert ranks(found, "houlsby", "pfeiffer") == [1, 1]
    (unclear,) = found.unclear
    assert unclear == (
        "not enough to tell between Houlsby, Pfeiffer: Houlsby, Pfeiffer measured with one seed, which says nothing of the "
        "noise; repeat with more seeds"
    )


def test_a_wide_spread_far_below_is_still_not_told_apart_from_the_best() -> None:
    found = advice(needs(), figure("houlsby", 0.80), figure("pfeiffer", 0.75), figure("lora", 0.70, 0.2))
    assert ranks(found, "houlsby", "pfeiffer", "lora") == [1, 2, 1]


def test_one_figure_of_ones_own_compares_nothing() -> None:
    found = advice(needs(2_490, LARGER), figure("houlsby", 0.80))
    assert choice(found, "scalearn").rank == 1
    assert any("it takes two to compare" in line for line in found.unclear)
    assert any(r.rule == "standing_of_methods" for r in choice(found, "houlsby").reasons)


def test_what_was_measured_besides_is_a_choice_too() -> None:
    found = advice(needs(weights_a_task=900_000), figure("wide", 0.8, weights=800_000), figure("head", 0.5))
    assert (choice(found, "wide").rank, choice(found, "wide").weights) == (1, 800_000)
    (reason,) = (r for r in choice(found, "wide").reasons if r.rule == "weights_are_limited")
    assert [one.basis for one in reason.evidence] == ["measured here"]


def test_a_method_of_ones_own_is_called_as_it_likes() -> None:
    found = advice(needs(67_349, LARGER), figure("small", 0.8), figure("changing", 0.7), figure("joint", 0.6))
    for key in ("small", "changing", "joint"):
        assert {r.rule for r in choice(found, key).reasons} == {"own_figures"}


def test_the_same_method_with_other_options_keeps_its_rules() -> None:
    found = advice(needs(keep_base=True), figure("full #2", 0.8), figure("head", 0.5))
    assert choice(found, "full #2").rank is None


def test_figures_of_another_base_are_said_to_be_so() -> None:
    found = advice(needs(), figure("houlsby", 0.80, base="minilm"), figure("head", 0.6, base="minilm"))
    assert found.unclear == ("the figures were measured on minilm, the weights are counted on made-up",)


def test_what_stands_first_against_a_need_says_so() -> None:
    found = advice(needs(2_490, LARGER, changing=True), figure("fusion", 0.80), figure("head", 0.6))
    assert found.conclusion == "AdapterFusion stands first, by your own figures; mind what speaks against it"


def test_the_head_alone_is_always_left() -> None:
    found = advice(needs(keep_base=True, weights_a_task=1))
    assert [c.candidate.key for c in found.choices if c.rank is not None] == ["head"]


def test_a_large_target_is_not_told_apart_from_full_fine_tuning() -> None:
    assert "full" in {c.candidate.key for c in leaders(advice(needs(67_349)))}
    assert "full" not in {c.candidate.key for c in leaders(advice(needs(2_490)))}
