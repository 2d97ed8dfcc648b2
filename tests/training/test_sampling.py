"""Task sampling: probabilities by their formulas, what is drawn by its distribution, resuming exactly."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import pytest

import graftwork as gw
from graftwork.training import TaskBatch, TaskMixing, TaskSampler

SIZES = {"mnli": 4000, "rte": 250, "cola": 1000}


@pytest.mark.parametrize(
    ("mixing", "epoch", "epochs", "alpha"),
    [
        (TaskMixing(), 3, 5, 1.0),
        (TaskMixing(kind="uniform"), 3, 5, 0.0),
        (TaskMixing(kind="temperature", temperature=2.0), 3, 5, 0.5),
        (TaskMixing(kind="temperature"), 1, 1, 0.1),
        (TaskMixing(kind="temperature", temperature=1), 1, 1, 1.0),
        (TaskMixing(kind="annealed"), 1, 5, 1.0),
        (TaskMixing(kind="annealed"), 2, 5, 0.8),
        (TaskMixing(kind="annealed"), 5, 5, 0.2),
        (TaskMixing(kind="annealed"), 1, 1, 1.0),
        (TaskMixing(kind="annealed", fall=1.0), 5, 5, 0.0),
    ],
)
def test_probabilities_are_sizes_to_the_power_of_alpha(
    mixing: TaskMixing, epoch: int, epochs: int, alpha: float
) -> None:
    assert mixing.exponent(epoch, epochs) == pytest.approx(alpha)
    found = mixing.probabilities(SIZES, epoch, epochs)
    raised = {task: size**alpha for task, size in SIZES.items()}
    assert found == pytest.approx({task: share / sum(raised.values()) for task, share in raised.items()})
    assert sum(found.values()) == pytest.approx(1.0)


def test_very_large_tasks_do_not_overflow() -> None:
    found = TaskMixing().probabilities({"web": 10**200, "rte": 10})
    assert found["web"] == 1.0


@pytest.mark.parametrize("kind", ["proportional", "uniform", "temperature"])
def test_tasks_are_drawn_as_often_as_they_should_be(kind: str) -> None:
    mixing = TaskMixing(kind=kind, temperature=3.0)
    sampler = TaskSampler(SIZES, 50, mixing=mixing, steps=6000, seed=1)
    counts = Counter(batch.task for batch in sampler)
    expected = {task: 6000 * p for task, p in mixing.probabilities(SIZES).items()}
    chi = sum((counts[task] - n) ** 2 / n for task, n in expected.items())
    assert chi < 13.82  # two degrees of freedom: one in a thousand of fair draws is further off


def test_annealing_moves_from_the_sizes_towards_equal_shares() -> None:
    sampler = TaskSampler(SIZES, 50, mixing=TaskMixing(kind="annealed"), epochs=4, steps=1500)
    drawn = [batch.task for batch in sampler]
    assert len(drawn) == len(sampler) == 6000
    shares = [Counter(drawn[n : n + 1500])["mnli"] / 1500 for n in range(0, 6000, 1500)]
    expected = [sampler.mixing.probabilities(SIZES, e, 4)["mnli"] for e in (1, 2, 3, 4)]
    assert expected == sorted(expected, reverse=True)
    for share, right in zip(shares, expected, strict=True):
        assert abs(share - right) < 4 * (right * (1 - right) / 1500) ** 0.5


def test_every_row_comes_once_a_pass() -> None:
    sampler = TaskSampler({"a": 10, "b": 7}, {"a": 4, "b": 3}, epochs=40)
    assert sampler.steps == 3 + 3
    rows: dict[str, list[tuple[int, ...]]] = {"a": [], "b": []}
    for batch in sampler:
        assert isinstance(batch, TaskBatch)
        rows[batch.task].append(batch.rows)
    orders = []
    for task, size in (("a", 10), ("b", 7)):
        for n in range(0, len(rows[task]) - 2, 3):
            turn = [*itertools.chain(*rows[task][n : n + 3])]
            assert sorted(turn) == list(range(size))
            orders.append(tuple(turn))
    assert len(set(orders)) > 0.9 * len(orders)  # each pass in an order of its own


def test_the_seed_decides() -> None:
    one, same, other = ([*TaskSampler(SIZES, 64, seed=seed, steps=40)] for seed in (1, 1, 2))
    assert one == same
    assert one != other


def options() -> dict[str, Any]:
    return {"mixing": TaskMixing(kind="annealed"), "epochs": 3, "steps": 20, "seed": 4}


@pytest.mark.parametrize("step", [0, 1, 19, 20, 41, 60])
def test_it_goes_on_exactly_where_it_stood(step: int) -> None:
    sizes = {"a": 23, "b": 5, "c": 40}
    whole = [*TaskSampler(sizes, 4, **options())]
    first = TaskSampler(sizes, 4, **options())
    assert [*itertools.islice(first, step)] == whole[:step]
    state = json.loads(json.dumps(first.state_dict()))
    again = TaskSampler(sizes, 4, **options())
    again.load_state_dict(state)
    assert [*again] == whole[step:]
    assert [*first] == whole[step:]  # the one that stood there goes on too
    sought = TaskSampler(sizes, 4, **options())
    assert len([*sought]) == 60  # all of it was loaded ahead
    sought.seek(step)
    assert sought.state_dict() == state
    assert [*sought] == whole[step:]


def test_a_state_of_another_sampler_is_refused() -> None:
    state = TaskSampler({"a": 5, "b": 6}, 4).state_dict()
    with pytest.raises(gw.ConfigError, match=r"sizes was \{'a': 5, 'b': 6\} and is \{'a': 5\}"):
        TaskSampler({"a": 5}, 4).load_state_dict(state)
    with pytest.raises(gw.ConfigError, match="seed was 0 and is 1"):
        TaskSampler({"a": 5, "b": 6}, 4, seed=1).load_state_dict(json.loads(json.dumps(state)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TaskMixing(kind="loud"), "kind is 'loud'.*'annealed'"),
        (lambda: TaskMixing(kind="temperature", temperature=0.5), "temperature is 0.5"),
        (lambda: TaskMixing(fall=2.0), "fall is 2.0"),
        (lambda: TaskSampler({}, 4), "no tasks"),
        (lambda: TaskSampler({"a": 0}, 4), r"sizes\['a'\] is 0"),
        (lambda: TaskSampler({"a": 3}, 0), r"batch_size\['a'\] is 0"),
        (lambda: TaskSampler({"a": 3}, {"b": 4}), r"batch_size is for \['b'\], and the tasks are \['a'\]"),
        (lambda: TaskSampler({"a": 3}, 4, epochs=0), "epochs is 0"),
        (lambda: TaskSampler({"a": 3}, 4, steps=True), "steps is True"),
        (lambda: TaskSampler({"a": 3}, 4).seek(2), "step is 2; give a whole number from 0 to 1"),
    ],
)
def test_bad_input_is_refused(make: Any, says: str) -> None:
    with pytest.raises(gw.ConfigError, match=says):
        make()
