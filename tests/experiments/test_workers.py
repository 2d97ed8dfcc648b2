"""Several workers on one run's folder, killed and stopped, make what one process makes; no two of them train one unit.

In the first test 3 are killed by default; ``GRAFTWORK_KILLS=30 pytest tests/experiments/test_workers.py -k killed`` kills 30.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import graftwork as gw
from graftwork.experiments import Recipe, Unit, Watcher, plan, read_results, run, work
from graftwork.experiments.running.run import begin
from tests.experiments.test_kills import untimed
from tests.support.tiny_run import RECIPE, make_tiny

SCRIPT = Path(__file__).with_name("kill_workers.py")
KILLS = int(os.environ.get("GRAFTWORK_KILLS", "3"))
# A pass of two, a sequence of two, single units; more seeds where more workers are killed.
SEEDS = [*range(max(1, KILLS // 6))]
MANY = f'together = 2\nseeds = {SEEDS}\ncontrols = ["head", "sequential", "average"]\n{RECIPE}'
SHORT = "controls = []\n" + RECIPE.replace("epochs = 3", "epochs = 1")


def go(recipe: Path, out: Path, workers: int, kills: int, *stop: str) -> dict[str, Any]:
    """What the script that kills workers says."""
    words = [str(SCRIPT), str(recipe), str(out), str(workers), str(kills), "5", *stop]
    done = subprocess.run([sys.executable, *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert set(found["codes"]) == {0}, done.stderr
    return found


def weights(out: Path) -> dict[str, bytes]:
    """The content of every file of weights in a run."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.safetensors"))}


def check_one_at_a_time(steps: list[Any], out: Path) -> None:
    """That the steps of a unit by one process are not among those of another, and that one worker ended it."""
    turns: dict[str, list[int]] = {}
    for unit, process, _ in steps:
        if (seen := turns.setdefault(unit, []))[-1:] != [process]:
            seen.append(process)
    assert all(len(set(seen)) == len(seen) for seen in turns.values()), turns
    for unit in read_results(out)["units"]:
        log = (out / "units" / unit["unit"] / "log.txt").read_text().splitlines()
        lines = [
            re.fullmatch(r"\S+ \S+ (\S+:\d+:\w{6}) (begins|goes on|takes over from \S+|done)", line) for line in log
        ]
        assert all(lines), log
        said = [(line[1], line[2]) for line in lines if line]
        assert [what for _, what in said].count("done") == 1 and said[-1][1] == "done", log
        assert said[-2][0] == said[-1][0], log  # by whom it was begun, or taken over, last
        for (before, _), (_, what) in itertools.pairwise(said[:-1]):
            assert what in ("goes on", f"takes over from {before}"), log


def no_leftovers(out: Path) -> list[str]:
    """What only a run that is not done may have."""
    names = [str(path.relative_to(out)) for path in out.rglob("*")]
    wanted = re.compile(r"(^|/)\.\w+\.[0-9a-f]{32}|\.new$|checkpoint|together|claims/(?!results)")
    return [name for name in names if wanted.search(name)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    recipe = make_tiny(tmp_path_factory.mktemp("whole"), MANY)
    return recipe, run(Recipe.read(recipe), recipe.parent / "whole", root=recipe.parent)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_workers_that_are_killed_make_what_one_process_makes(whole: Any) -> None:
    recipe, expected = whole
    out = recipe.parent / "killed"
    found = go(recipe, out, 3, KILLS)
    assert found["kills"] == KILLS, "the run was over before"
    assert untimed(read_results(out)) == untimed(expected)
    assert weights(out) == weights(recipe.parent / "whole") and len(weights(out)) > 5
    check_one_at_a_time(found["steps"], out)
    assert no_leftovers(out) == []
    print(f"{found['kills']} kills, {len(expected['units'])} units, {len(weights(out))} files of weights are equal")


@pytest.mark.slow
def test_one_that_is_stopped_for_long_finds_out_and_writes_nothing(whole: Any) -> None:
    recipe, expected = whole
    out = recipe.parent / "stopped"
    found = go(recipe, out, 2, 0, "stop")
    assert found["kills"] == 1, "nothing was taken over"
    assert untimed(read_results(out)) == untimed(expected)
    assert weights(out) == weights(recipe.parent / "whole")
    check_one_at_a_time(found["steps"], out)
    assert no_leftovers(out) == []


class Failing(Watcher):
    """Fails where one unit begins; remembers what it was told."""

    def __init__(self, unit: str = "") -> None:
        self.unit = unit
        self.told: list[str] = []

    def begun(self, unit: Unit, resumed: bool) -> None:
        self.told.append(f"begun {unit.id}")
        if unit.id == self.unit:
            raise ValueError("shapes do not match")

    def failed(self, unit: Unit, why: str) -> None:
        self.told.append(f"failed {unit.id}: {why}")

    def ended_elsewhere(self, unit: Unit, run: Path) -> None:
        self.told.append(f"elsewhere {unit.id}")


def test_a_worker_needs_a_run_that_was_begun(tmp_path: Path) -> None:
    with pytest.raises(gw.RecipeError, match="no folder of a run"):
        work(tmp_path)


def test_who_comes_later_finds_it_done_and_has_the_results(tmp_path: Path) -> None:
    recipe, out = Recipe.read(make_tiny(tmp_path, SHORT)), tmp_path / "run"
    begin(recipe, out, root=tmp_path)
    first = work(out)
    assert [unit["unit"] for unit in first["units"]] == [unit.id for unit in plan(recipe)]
    later = Failing("adapter/a/0")
    assert work(out, watcher=later) == first and later.told == []


def test_a_failure_of_one_is_one_of_all_until_the_next_command(tmp_path: Path) -> None:
    """What fails in one worker is not tried by another that runs beside it, but by one that is started later."""
    recipe, out = Recipe.read(make_tiny(tmp_path, SHORT)), tmp_path / "run"
    begin(recipe, out, root=tmp_path)
    beside, gone_on = Failing(), threading.Event()

    class First(Failing):
        """Lets the other worker begin before it fails, and go on after."""

        def begun(self, unit: Unit, resumed: bool) -> None:
            if unit.id == self.unit:
                other.start()
                while not beside.told:  # it is at the next unit
                    pass
            super().begun(unit, resumed)

        def failed(self, unit: Unit, why: str) -> None:
            super().failed(unit, why)
            gone_on.set()

    said: list[BaseException] = []

    def go_beside() -> None:
        try:
            work(out, watcher=beside)
        except gw.TrainingError as error:
            said.append(error)

    other = threading.Thread(target=go_beside)
    first = First("adapter/a/0")
    with pytest.raises(gw.TrainingError, match="2 of the trainings"):
        work(out, watcher=first)
    other.join()
    assert gone_on.is_set() and "begun adapter/a/0" not in beside.told
    assert "failed adapter/a/0: ValueError: shapes do not match" in beside.told
    assert "failed fusion/a/0: left out, because it depends on adapter/a/0" in beside.told
    assert "adapter/a/0: ValueError" in str(said[0])
    assert [one["unit"] for one in read_results(out)["failed"]] == ["adapter/a/0", "fusion/a/0"]
    again = Failing()
    assert work(out, watcher=again)["complete"] and "begun adapter/a/0" in again.told
    assert read_results(out)["failed"] == []


def test_a_run_that_is_deleted_is_said_and_not_made_again(tmp_path: Path) -> None:
    recipe, out = Recipe.read(make_tiny(tmp_path, SHORT)), tmp_path / "run"

    class Deletes(Watcher):
        def stepped(self, unit: Unit, step: int, steps: int) -> None:
            if out.exists():
                out.rename(tmp_path / "elsewhere")

    with pytest.raises(gw.TrainingError, match="is gone: it was moved or deleted"):
        run(recipe, out, root=tmp_path, watcher=Deletes())
    assert not out.exists() and list((tmp_path / "elsewhere").rglob(".0.*"))  # where the next worker finds it
