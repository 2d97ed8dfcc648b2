"""How long a run takes: from the steps of each kind, and nothing for what was never measured."""

from __future__ import annotations

import pytest

from graftwork.experiments import Recipe, Unit, plan
from graftwork.report.board import run_line
from graftwork.report.progress import Progress
from tests.report.made_up import MANY, many_result
from tests.report.test_live import Clock

RECIPE = Recipe.make(
    {
        "base": {"model": "base"},
        "tasks": {"a": {"data": "a"}, "b": {"data": "b"}},
        "targets": ["a"],
        "controls": ["head"],
        "training": {"epochs": 10, "batch_size": 32, "fusion": {"epochs": 5, "batch_size": 16}},
    }
)
ADAPTER_A, ADAPTER_B, FUSION, HEAD = plan(RECIPE)


def result(unit: Unit, steps: int = 40, epochs: int = 4, seconds: float = 80.0) -> dict[str, object]:
    timings = {"train_seconds": seconds}
    return {"kind": unit.kind, "task": unit.task, "steps": steps, "epochs": epochs, "timings": timings}


def made(progress: Progress, clock: Clock, unit: Unit, steps: range, seconds: float) -> None:
    """A unit makes some of 100 steps."""
    progress.begun(unit, resumed=steps.start > 1)
    for step in steps:
        progress.stepped(unit, step, 100)
    clock.now += seconds


def started(done: dict[str, dict[str, object]] | None = None) -> tuple[Progress, Clock]:
    clock = Clock()
    progress = Progress(RECIPE, clock)
    progress.planned(plan(RECIPE), done or {})
    return progress, clock


def test_at_first_nothing_is_known() -> None:
    progress, _ = started()
    assert progress.left() == (0.0, [ADAPTER_A, ADAPTER_B, FUSION, HEAD])
    assert run_line(progress) == "0 of 4 done · 0 s so far · 4 not known yet (adapter, fusion, head)"


def test_the_unit_in_hand_is_known_after_some_steps() -> None:
    progress, clock = started()
    made(progress, clock, ADAPTER_A, range(1, 3), 4.0)
    assert progress.left()[0] == 0.0  # two steps say nothing yet
    progress.stepped(ADAPTER_A, 20, 100)
    clock.now = 40.0
    assert progress.left() == (160.0, [ADAPTER_B, FUSION, HEAD])  # 80 steps of 2 s; the rows of b were not seen


def test_a_resumed_unit_counts_the_steps_of_this_process() -> None:
    progress, clock = started()
    made(progress, clock, ADAPTER_A, range(51, 61), 20.0)
    assert progress.speed("adapter") == 2.0 and progress.left()[0] == 80.0


def test_each_kind_has_its_own_speed() -> None:
    progress, clock = started()
    made(progress, clock, ADAPTER_A, range(1, 51), 100.0)
    progress.ended(ADAPTER_A, result(ADAPTER_A, steps=50))
    assert progress.left() == (0.0, [ADAPTER_B, FUSION, HEAD])
    made(progress, clock, FUSION, range(1, 11), 5.0)
    assert progress.speed("adapter") == 2.0 and progress.speed("fusion") == 0.5
    # made out of order, so that the adapter of b is still to come: nothing is known of its rows
    assert progress.left() == (45.0, [ADAPTER_B, HEAD])
    assert (
        run_line(progress)
        == "1 of 4 done · 1 min 45 s so far · at most 45 s left · and 2 not known yet (adapter, head)"
    )


def test_what_another_process_made_is_read_off_its_results() -> None:
    progress, clock = started({ADAPTER_A.id: result(ADAPTER_A), HEAD.id: result(HEAD, seconds=20.0)})
    assert progress.speed("adapter") == 2.0 and progress.speed("head") == 0.5
    assert progress.speed("fusion") is None
    made(progress, clock, ADAPTER_B, range(1, 11), 10.0)  # this machine is faster than that one was
    assert progress.speed("adapter") == 1.0


@pytest.mark.parametrize(("kind", "steps"), [("adapter", 100), ("head", 100), ("fusion", 100)])
def test_steps_follow_the_batches_and_epochs_of_a_kind(kind: str, steps: int) -> None:
    # 10 an epoch: of 32 rows each, so 20 of 16 rows; ten epochs of those, and five of these
    progress, _ = started({ADAPTER_A.id: result(ADAPTER_A, steps=40, epochs=4)})
    assert progress.steps_of(kind, "a") == steps
    assert progress.steps_of(kind, "b") is None


def test_a_sequence_counts_the_steps_of_all_its_tasks() -> None:
    first, second = (unit for unit in plan(MANY) if unit.kind == "sequential")
    clock = Clock()
    progress = Progress(MANY, clock)
    progress.planned((first, second), {})
    progress.begun(first, resumed=False)
    for steps in (10, 20, 30):
        for step in range(1, steps + 1):
            progress.stepped(first, step, steps)
    clock.now = 120.0
    assert progress.now is not None and progress.now.made == 60 and progress.speed("sequential") == 2.0
    assert progress.left() == (0.0, [first, second])  # how many steps all tasks have is not known before one is done
    progress.ended(first, many_result(first))
    assert progress.speed("sequential") == 2.0


def test_a_sequence_that_is_done_tells_how_long_another_takes() -> None:
    first, second = (unit for unit in plan(MANY) if unit.kind == "sequential")
    # 40 steps in 2 epochs over all tasks: 60 steps if each of three tasks is gone through once, and 10 times that at most
    done = many_result(first)
    progress = Progress(MANY, Clock())
    progress.planned((first, second), {first.id: done})
    assert progress.left() == (pytest.approx(600 * 60.0 / 40), [])


def test_adapters_that_are_only_added_make_no_steps_and_tell_none() -> None:
    adapters = next(unit for unit in plan(MANY) if unit.kind == "sequential_adapters")
    shared = next(unit for unit in plan(MANY) if unit.kind == "mt_shared")
    progress = Progress(MANY, Clock())
    progress.planned((adapters, shared), {adapters.id: many_result(adapters) | {"steps": 0, "epochs": 0}})
    assert progress.steps_of("mt_shared", "all-tasks") is None


def test_a_pass_of_several_units_has_its_time_once() -> None:
    progress, clock = started()
    for unit in (ADAPTER_A, ADAPTER_B):
        progress.begun(unit, resumed=False)
    for step in range(1, 51):
        progress.stepped(ADAPTER_A, step, 100)
        progress.stepped(ADAPTER_B, step, 60)
    clock.now = 50.0
    assert progress.now is not None and progress.now.unit == ADAPTER_B
    assert progress.speed("adapter") == 0.5 and progress.left() == (0.5 * (50 + 10), [FUSION, HEAD])
    clock.now = 60.0
    progress.ended(ADAPTER_A, result(ADAPTER_A))
    assert progress.now is not None and progress.now.unit == ADAPTER_B and progress.speed("adapter") == 0.6
    progress.ended(ADAPTER_B, result(ADAPTER_B))
    assert progress.now is None and progress.speed("adapter") == 0.6
    clock.now = 1000.0
    assert progress.speed("adapter") == 0.6
