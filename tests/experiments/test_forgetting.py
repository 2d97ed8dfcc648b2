"""What a sequence forgets: the figures by hand, on a matrix where no two of them could be mistaken for one another."""

from __future__ import annotations

import json

import pytest

from graftwork.errors import ConfigError
from graftwork.experiments.running.forgetting import Forgetting, interference

# a is best after the second step and falls far; b falls by less; c is the last.
THREE = Forgetting(("a", "b", "c"), ((0.70,), (0.72, 0.78), (0.60, 0.70, 0.79)))


def test_forgetting_is_counted_from_the_best_before_the_last_step() -> None:
    assert THREE.forgotten == pytest.approx({"a": 0.72 - 0.60, "b": 0.78 - 0.70})
    assert THREE.average_forgetting == pytest.approx((0.12 + 0.08) / 2)


def test_backward_transfer_is_counted_from_when_a_task_was_learnt() -> None:
    assert THREE.backward_transfer == pytest.approx(((0.60 - 0.70) + (0.70 - 0.78)) / 2)


def test_forward_transfer_is_counted_from_a_training_alone() -> None:
    alone = {"a": 0.1, "b": 0.80, "c": 0.75}  # the first task has nothing before it, and does not count
    assert THREE.forward_transfer(alone) == pytest.approx(((0.78 - 0.80) + (0.79 - 0.75)) / 2)
    assert THREE.forward_transfer({"a": 0.1, "c": 0.75}) == pytest.approx(0.79 - 0.75)  # of those that are known
    assert THREE.forward_transfer({"a": 0.1}) is None and THREE.forward_transfer({}) is None


def test_a_task_that_is_best_at_the_end_has_risen() -> None:
    risen = Forgetting(("a", "b"), ((0.5,), (0.6, 0.7)))
    assert risen.average_forgetting == pytest.approx(-0.1) and risen.backward_transfer == pytest.approx(0.1)


def test_where_nothing_changes_nothing_is_forgotten() -> None:
    kept = Forgetting(("a", "b", "c"), ((0.7,), (0.7, 0.8), (0.7, 0.8, 0.75)))
    assert kept.average_forgetting == kept.backward_transfer == 0 and kept.forgotten == {"a": 0, "b": 0}


def test_one_task_forgets_nothing_and_says_so() -> None:
    one = Forgetting(("a",), ((0.7,),))
    assert one.forgotten == {}
    assert one.average_forgetting is one.backward_transfer is one.forward_transfer({"a": 0.5}) is None


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (((0.7,),), r"2 tasks has rows of 1 to 2 scores, not \[1\]"),
        (((0.7,), (0.7,)), r"not \[1, 1\]"),
        (((0.7, 0.8), (0.7, 0.8)), r"not \[2, 2\]"),
        ((), r"not \[\]"),
    ],
)
def test_what_is_no_triangle_is_refused(scores: tuple[tuple[float, ...], ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Forgetting(("a", "b"), scores)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match="'a' after 'b'"):
        Forgetting(("a", "b"), ((0.7,), (bad, 0.8)))


def test_nothing_is_no_sequence() -> None:
    with pytest.raises(ConfigError, match="one task"):
        Forgetting((), ())


def test_it_goes_through_json_with_its_figures() -> None:
    told = json.loads(json.dumps(THREE.to_dict()))
    assert Forgetting.from_dict(told) == THREE
    assert told["average_forgetting"] == pytest.approx(0.10) and told["backward_transfer"] == pytest.approx(-0.09)


def test_interference_is_what_a_task_gains_by_company() -> None:
    alone, together = {"a": 0.70, "b": 0.80, "only alone": 0.5}, {"a": 0.74, "b": 0.79, "only together": 0.9}
    assert interference(alone, together) == pytest.approx({"a": 0.04, "b": -0.01})
