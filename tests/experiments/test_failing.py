"""A training that fails does not end the run: it is written down, what depends on it is left out, the others go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import graftwork as gw
from graftwork.cli import app
from graftwork.experiments import Recipe, Unit, Watcher, read_comparison, read_results, run
from graftwork.experiments.running import unit as units
from graftwork.experiments.running import worker as running
from graftwork.report import gather
from graftwork.report.files import state
from tests.support.tiny_run import RECIPE, make_tiny

SHORT = 'controls = ["head"]\n' + RECIPE.replace("epochs = 3", "epochs = 1")


class Failing(Watcher):
    """Fails, as a training may, where a unit begins; remembers what it was told."""

    def __init__(self, *ids: str, error: BaseException | None = None) -> None:
        self.ids, self.error = ids, error or torch.OutOfMemoryError("CUDA out of memory\nTried to allocate")
        self.told: list[str] = []

    def begun(self, unit: Unit, resumed: bool) -> None:
        self.told.append(f"begun {unit.id}")
        if unit.id in self.ids:
            raise self.error

    def failed(self, unit: Unit, why: str) -> None:
        self.told.append(f"failed {unit.id}: {why}")

    def message(self, text: str) -> None:
        self.told.append(text)


def test_the_others_go_on_and_the_same_command_tries_again(tmp_path: Path) -> None:
    recipe, out = Recipe.read(make_tiny(tmp_path, SHORT)), tmp_path / "run"
    watcher = Failing("adapter/b/0")
    with pytest.raises(gw.TrainingError) as said:
        run(recipe, out, root=tmp_path, watcher=watcher)
    assert [line.strip() for line in str(said.value).splitlines()[:3]] == [
        f"2 of the trainings of {out} failed or were left out:",
        "adapter/b/0: OutOfMemoryError: CUDA out of memory",
        "fusion/a/0: left out, because it depends on adapter/b/0",
    ]
    assert [line for line in watcher.told if line.startswith("begun")] == [
        "begun adapter/a/0",
        "begun adapter/b/0",
        "begun head/a/0",
    ]
    assert "failed fusion/a/0: left out, because it depends on adapter/b/0" in watcher.told
    told = (out / "units" / "adapter" / "b" / "0" / "error.txt").read_text()
    assert told.startswith("OutOfMemoryError: CUDA out of memory\n") and "Traceback" in told
    results = read_results(out)
    assert [unit["unit"] for unit in results["units"]] == ["adapter/a/0", "head/a/0"] and not results["complete"]
    assert [one["unit"] for one in results["failed"]] == ["adapter/b/0", "fusion/a/0"]
    assert "adapter/b/0 failed (OutOfMemoryError: CUDA out of memory)." in state(gather(out))

    again = Failing()
    assert run(recipe, out, root=tmp_path, watcher=again)["complete"]
    assert again.told == ["begun adapter/b/0", "begun fusion/a/0"]
    assert not list(out.rglob("error.txt")) and read_results(out)["failed"] == []


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), gw.RecipeError("no base"), OSError(28, "No space left on device")]
)
def test_what_would_stop_every_training_stops_the_run(tmp_path: Path, error: BaseException) -> None:
    recipe, watcher = Recipe.read(make_tiny(tmp_path, SHORT)), Failing("adapter/a/0", error=error)
    expected = gw.TrainingError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        run(recipe, tmp_path / "run", root=tmp_path, watcher=watcher)
    assert watcher.told == ["begun adapter/a/0"] and not list((tmp_path / "run").rglob("error.txt"))


def test_of_a_pass_that_fails_each_is_trained_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, out = Recipe.read(make_tiny(tmp_path, "together = 2\n" + SHORT)), tmp_path / "run"

    def out_of_memory(*args: Any, **options: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("graftwork.experiments.running.joint_pass.learn_together", out_of_memory)
    watcher = Failing("adapter/b/0")
    watcher.ids = ()
    results = run(recipe, out, root=tmp_path, watcher=watcher)
    assert results["complete"] and not (out / "together").exists()
    assert [unit.get("together") for unit in results["units"][:2]] == [None, None]
    assert any("adapter/a/0, adapter/b/0: their pass failed" in line for line in watcher.told)


def test_a_recipe_with_a_bad_row_is_mended_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a unit that failed had begun with other rows is no reason to refuse."""
    recipe, out = Recipe.read(make_tiny(tmp_path, RECIPE.replace('targets = ["a"]', ""))), tmp_path / "run"
    step, calls = gw.training.AdapterTrainer.training_step, []

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        loss = step(self, *args, **kwargs)
        return loss * float("nan") if len(calls) == 5 else loss

    monkeypatch.setattr(gw.training.AdapterTrainer, "training_step", broken)
    with pytest.raises(gw.TrainingError, match="adapter/a/0: TrainingError: the loss is nan"):
        run(recipe, out, root=tmp_path)
    monkeypatch.undo()
    rows = tmp_path / "a" / "train.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[1:]))
    watcher = Failing()
    assert run(recipe, out, root=tmp_path, watcher=watcher)["complete"] and watcher.told == ["begun adapter/a/0"]


def test_the_command_says_which_and_is_not_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, train = make_tiny(tmp_path, SHORT), units.run_unit

    def failing(unit: Unit, *args: Any) -> Any:
        if unit.id == "adapter/b/0":
            raise ValueError("shapes\x1b[2J do not match")
        return train(unit, *args)

    monkeypatch.setattr(running, "run_unit", failing)
    done = CliRunner().invoke(app, ["run", str(recipe), "--out", str(tmp_path / "run")])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert "failed adapter/b/0: ValueError: shapes\\u001b[2J do not match" in done.stdout
    assert "head only" in done.stdout and "2 of 4 trainings are done." in done.stdout
    assert "adapter/b/0: ValueError" in done.stderr and "fusion/a/0: left out" in done.stderr


def test_a_comparison_of_which_one_fails_compares_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.read(make_tiny(tmp_path, RECIPE.replace("epochs = 3", "epochs = 1")))
    train = units.run_unit

    def failing(unit: Unit, *args: Any) -> Any:
        if unit.method == "houlsby":
            raise ValueError("shapes do not match")
        return train(unit, *args)

    monkeypatch.setattr(running, "run_unit", failing)
    with pytest.raises(gw.TrainingError, match="method-houlsby/a/0: ValueError: shapes do not match"):
        gw.experiments.compare(recipe, ["head", "houlsby"], run=tmp_path / "run", root=tmp_path, costs=False)
    found = read_comparison(tmp_path / "run")
    assert found is not None and [row["line"] for row in found["targets"][0]["rows"]] == ["head", "full"]


LIMITED = """
import resource, sys
from graftwork.training import Recipe, run
recipe = Recipe.read(sys.argv[1] + "/recipe.toml")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    run(recipe, sys.argv[1] + "/run", root=sys.argv[1])
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_limit_of_a_file_s_size_in_torch_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    recipe = make_tiny(tmp_path, SHORT)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), "12000"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("TrainingError") and "the checkpoint could not be written" in done.stdout, done.stdout
    assert run(Recipe.read(recipe), tmp_path / "run", root=tmp_path)["complete"]
