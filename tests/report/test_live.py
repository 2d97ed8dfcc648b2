"""The live view: a picture in a terminal, lines in a pipe, the terminal restored, the training never stopped by it."""

from __future__ import annotations

import sys
from io import StringIO

import pytest
from rich.console import Console

from graftwork.experiments import Recipe, plan
from graftwork.report import Live
from tests.report.made_up import MANY, RECIPE, UNITS, many_result, unit_result

HEAD = next(unit for unit in UNITS if unit.kind == "head")
EVALUATION = {"eval_accuracy": 0.6125, "eval_matthews": 0.1, "eval_score": 0.6125, "eval_loss": 0.61}


class Clock:
    """A clock that only moves when the test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def terminal(**options: object) -> Console:
    given = {"file": StringIO(), "width": 100, "height": 40, **options}
    return Console(force_terminal=True, color_system=None, **given)  # type: ignore[arg-type]


def shown(console: Console) -> str:
    """What was written since the last look."""
    text = console.file.getvalue()
    console.file.seek(0)
    console.file.truncate()
    return text


def test_a_pipe_gets_lines_and_nothing_that_moves() -> None:
    console, clock = Console(file=StringIO()), Clock()
    with Live(RECIPE, console, clock=clock) as live:
        live.planned(UNITS, {UNITS[0].id: unit_result(UNITS[0], 0.7)})
        live.begun(HEAD, False)
        for step in range(1, 41):
            live.stepped(HEAD, step, 400)
        live.logged(HEAD, 0.5, {"loss": 0.6931, "learning_rate": 1e-4})
        live.logged(HEAD, 1.0, EVALUATION)
        live.ended(HEAD, unit_result(HEAD, 0.6125, seconds=75))
        live.begun(UNITS[-1], True)
        live.message("two\nlines \x1b[31mred")
    lines = shown(console).splitlines()
    at = UNITS.index(HEAD) + 1
    assert lines[:4] == [
        f"{len(UNITS)} trainings, 1 of them done already",
        f"begun head/rte/0 ({at} of {len(UNITS)})",
        "  head/rte/0 epoch 1 of 10: accuracy 61.3 %, loss 0.6931",
        "ended head/rte/0: accuracy 61.3 % on dev, epoch 2 of 2, 1 min 15 s",
    ]
    assert lines[4].startswith(f"  2 of {len(UNITS)} done")
    assert lines[5] == f"resumed {UNITS[-1].id} ({len(UNITS)} of {len(UNITS)})"
    assert lines[6] == "two lines \\u001b[31mred" and len(lines) == 7
    assert all(character.isprintable() for line in lines for character in line)


def test_a_pipe_hears_every_few_seconds_and_of_a_long_run_less_often() -> None:
    console, clock = Console(file=StringIO()), Clock()
    with Live(RECIPE, console, clock=clock) as live:
        live.planned(UNITS, {})
        live.begun(HEAD, False)
        shown(console)
        for step in range(1, 31):  # one a second
            clock.now += 1
            live.stepped(HEAD, step, 8000)
        assert shown(console).splitlines()[:2] == ["  head/rte/0 step 5 of 8000", "  head/rte/0 step 10 of 8000"]
        for step in range(31, 7201):
            clock.now += 1
            live.stepped(HEAD, step, 8000)
        lines = shown(console).splitlines()
        assert 50 < len(lines) < 250, "two hours fit a log that someone reads"
        assert all(line.isprintable() for line in lines)


def test_plain_is_plain_in_a_terminal_too() -> None:
    console = terminal()
    with Live(RECIPE, console, plain=True) as live:
        live.planned(UNITS, {})
    assert shown(console) == f"{len(UNITS)} trainings, 0 of them done already\n"


def test_a_terminal_gets_one_picture() -> None:
    console, clock = terminal(), Clock()
    done = [unit for unit in UNITS if unit.kind == "adapter" and unit.task != "mrpc"]
    with Live(RECIPE, console, clock=clock) as live:
        live.planned(UNITS, {unit.id: unit_result(unit, 0.7) for unit in done})
        live.begun(HEAD, False)
        live.logged(HEAD, 0.5, {"loss": 0.6931})
        live.logged(HEAD, 1.0, EVALUATION)
        live.logged(HEAD, 2.0, {**EVALUATION, "eval_accuracy": 0.5, "eval_score": 0.5})
        shown(console)
        clock.now = 60
        live.stepped(HEAD, 20, 80)
        picture = shown(console)
    assert "head · rte · seed 0" in picture
    assert "step 20 of 80" in picture and "epoch 2.5 of 10" in picture
    assert "loss 0.6931 · accuracy 50.0 %, best 61.3" in picture
    assert f"{len(done)} of {len(UNITS)} done · 1 min 00 s so far" in picture
    rows = {line.split()[0]: line.split() for line in picture.splitlines() if line.split()}
    assert rows["rte"][1:4] == ["◐○", "○○", "●●"] and rows["rte"][4] == "70.0"
    assert rows["mrpc"][3] == "○○"


def test_a_pass_of_several_units_is_one_picture() -> None:
    console, clock = terminal(), Clock()
    first, second = [unit for unit in UNITS if unit.kind == "adapter"][:2]
    with Live(RECIPE, console, clock=clock) as live:
        live.planned(UNITS, {})
        for unit in (first, second):
            live.begun(unit, False)
        live.stepped(first, 1, 80)
        shown(console)
        clock.now = 60
        live.stepped(second, 20, 40)
        picture = shown(console)
        live.ended(second, unit_result(second, 0.7))
        after = shown(console)
    assert f"adapter · {second.task} · seed 0  and 1 more in the same pass" in picture
    assert "step 20 of 40" in picture
    rows = {line.split()[0]: line for line in picture.splitlines() if line.split()}
    assert "◐" in rows[first.task] and "◐" in rows[second.task]
    assert f"adapter · {first.task} · seed 0" in after and "more in the same pass" not in after


class Ascii(StringIO):
    """A terminal that shows nothing else."""

    encoding = "ascii"


def test_a_terminal_without_unicode_gets_lines() -> None:
    console = terminal(file=Ascii())
    with Live(RECIPE, console) as live:
        live.planned(UNITS, {})
        live.message("± 1")
    assert shown(console) == f"{len(UNITS)} trainings, 0 of them done already\n? 1\n"


def test_many_steps_do_not_make_many_pictures() -> None:
    console, clock = terminal(), Clock()
    with Live(RECIPE, console, clock=clock) as live:
        live.planned(UNITS, {})
        live.begun(HEAD, False)
        shown(console)
        for step in range(1, 1001):
            live.stepped(HEAD, step, 2000)
        assert shown(console) == ""
        clock.now += 1
        live.stepped(HEAD, 1001, 2000)
        assert "step 1001 of 2000" in shown(console)


def test_a_low_terminal_shows_the_task_in_hand() -> None:
    names = [f"task{n:02d}" for n in range(40)]
    recipe = Recipe.make({"base": {"model": "base"}, "tasks": {name: {"data": name} for name in names}})
    console = terminal(height=20)
    with Live(recipe, console) as live:
        live.planned(plan(recipe), {})
        shown(console)
        live.begun(plan(recipe)[30], False)
        picture = shown(console)
    assert "adapter · task30" in picture and "task29" in picture and "task00" not in picture
    assert "and 30 more tasks" in picture and picture.count("\n") < 20


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_an_exception_gives_the_terminal_back(error: BaseException) -> None:
    console, before = terminal(), (sys.stdout, sys.stderr)
    with pytest.raises(type(error)), Live(RECIPE, console) as live:
        live.planned(UNITS, {})
        assert sys.stdout is not before[0]  # what anything prints is put above the view
        raise error
    assert (sys.stdout, sys.stderr) == before
    text = shown(console)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is there again
    with Live(RECIPE, console):  # and another view may begin
        pass


def test_what_is_said_stands_above_the_view() -> None:
    console = terminal()
    with Live(RECIPE, console) as live:
        live.planned(UNITS, {})
        shown(console)
        live.message("a word [red]")
        assert "a word [red]" in shown(console)


class Gone(StringIO):
    """Something whose reader goes away at some time."""

    error: BaseException | None = None
    tried = 0

    def write(self, text: str) -> int:
        self.tried += 1
        if self.error is not None:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    ("is_terminal", "error"),
    [
        (False, BrokenPipeError("gone")),
        (False, ValueError("I/O operation on closed file")),
        (True, OSError("gone")),
        (True, ValueError("I/O operation on closed file")),
        (True, SystemExit(1)),  # what rich makes of a broken pipe
    ],
)
def test_training_goes_on_when_nobody_looks(is_terminal: bool, error: BaseException) -> None:
    file = Gone()
    console = Console(file=file, force_terminal=is_terminal, width=80, height=40)
    before = sys.stdout
    with Live(RECIPE, console) as live:
        live.planned(UNITS, {})
        file.error = error
        live.begun(HEAD, False)
        tried = file.tried
        live.ended(HEAD, unit_result(HEAD, 0.5))
        live.message("a word")
        assert file.tried == tried > 0
    assert sys.stdout is before


def test_what_is_trained_on_all_tasks_has_a_row_and_a_mean() -> None:
    units = plan(MANY)
    shared, second = (unit for unit in units if unit.kind == "mt_shared")
    scored = {"eval_mean of accuracy and f1": 0.76, "eval_rte": 0.76, "eval_mrpc": 0.76, "eval_score": 0.76}
    console, clock = terminal(width=200), Clock()
    with Live(MANY, console, clock=clock) as live:
        live.planned(units, {})
        live.begun(shared, False)
        live.logged(shared, 1.0, scored)
        live.ended(shared, many_result(shared))
        shown(console)
        live.begun(second, False)
        picture = shown(console)
    row = next(line for line in picture.splitlines() if line.lstrip().startswith("all-tasks"))
    assert "●◐ 76.0" in row and "mt_shared · all-tasks · seed 1" in picture
    lines = Console(file=StringIO())
    with Live(MANY, lines, plain=True, clock=clock) as live:
        live.planned(units, {})
        live.begun(shared, False)
        live.logged(shared, 1.0, scored)
        live.ended(shared, many_result(shared))
    said = shown(lines).splitlines()
    assert said[2].startswith("  mt_shared/all-tasks/0 epoch 1 of 10: mean of accuracy and f1 76.0 %")
    assert said[3].startswith("ended mt_shared/all-tasks/0: mean of accuracy and f1 76.0 % on dev")


def test_a_sequence_says_the_best_of_the_task_in_hand() -> None:
    unit = next(unit for unit in plan(MANY) if unit.kind == "sequential")
    console, clock = terminal(width=200), Clock()
    with Live(MANY, console, clock=clock) as live:
        live.planned(plan(MANY), {})
        live.begun(unit, False)
        live.stepped(unit, 1, 10)
        live.logged(unit, 1.0, {"eval_accuracy": 0.9, "eval_score": 0.9})
        live.stepped(unit, 1, 20)  # of the next task
        live.logged(unit, 1.0, {"eval_f1": 0.5, "eval_score": 0.5})
        shown(console)
        clock.now = 60
        live.stepped(unit, 2, 20)
        picture = shown(console)
    assert "step 2 of 20" in picture and "f1 50.0 %, best 50.0" in picture
