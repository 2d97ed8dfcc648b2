"""A sweep ends with the best recipe, goes on after a kill as if nothing had been, and is shared by processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import graftwork as gw
from graftwork.experiments import Recipe, Unit, Watcher, plan, read_results, read_sweep, run, sweep
from graftwork.experiments.sweeping import sweep as sweeping
from tests.experiments.sweeping.kill_sweep import OVER
from tests.support.tiny_run import RECIPE, make_tiny

pytest.importorskip("optuna")
SCRIPT = Path(__file__).with_name("kill_sweep.py")
SMALL = "fuse = false\ncontrols = []\n" + RECIPE.replace("epochs = 3", "epochs = 2")


def command(recipe: Path, out: Path, trials: int, *steps: int) -> subprocess.Popen[str]:
    words = [str(SCRIPT), str(recipe), str(out), str(trials), *map(str, steps)]
    return subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"), SMALL)


@pytest.fixture(scope="module")
def whole(recipe: Path) -> dict[str, Any]:
    return sweep(Recipe.read(recipe), OVER, recipe.parent / "whole", trials=4, root=recipe.parent)


@pytest.mark.slow
def test_each_trial_is_a_run_and_the_best_is_a_recipe(recipe: Path, whole: dict[str, Any]) -> None:
    out = recipe.parent / "whole"
    assert [one["trial"] for one in whole["trials"]] == ["0000", "0001", "0002", "0003"]
    for one in whole["trials"]:
        results = read_results(out / "trials" / one["trial"])
        assert [unit["unit"] for unit in results["units"]] == ["adapter/a/0"]
        assert one["state"] == "done" and one["score"] == results["units"][0]["scores"]["dev"]["accuracy"]
    best = next(one for one in whole["trials"] if one["trial"] == whole["best"])
    assert best["score"] == max(one["score"] for one in whole["trials"]) and whole["metric"] == "accuracy"
    found = Recipe.read(out / "best.toml")
    assert found.training.learning_rate == best["values"]["training.learning_rate"]
    assert found.fuse is False and {*found.tasks} == {"a", "b"}  # the whole recipe
    only = found.model_copy(update={"controls": ("adapter",)})
    again = run(only, recipe.parent / "again", root=out)
    assert [row["mean"] for row in again["targets"]] == [best["score"]]


@pytest.mark.slow
def test_the_same_call_again_trains_nothing_and_more_trials_go_on(recipe: Path, whole: dict[str, Any]) -> None:
    begun: list[Recipe] = []

    def watch(read: Recipe) -> Watcher:
        begun.append(read)
        return Watcher()

    def again(trials: int) -> dict[str, Any]:
        return sweep(Recipe.read(recipe), OVER, recipe.parent / "whole", trials=trials, root=recipe.parent, watch=watch)

    assert again(4) == whole and begun == []
    more = again(5)
    assert more["trials"][:4] == whole["trials"] and len(more["trials"]) == 5 and len(begun) == 1


@pytest.mark.slow
def test_one_that_is_killed_goes_on_as_if_nothing_had_been(recipe: Path, whole: dict[str, Any]) -> None:
    out = recipe.parent / "killed"
    first = command(recipe, out, 4, 11)  # 3 steps an epoch, 2 epochs: in the second epoch of the second trial
    assert first.wait(240) == -9, first.communicate()[1]
    assert [one["state"] for one in read_sweep(out)["trials"]] == ["done"]
    resumed: list[tuple[str, bool]] = []

    class Notes(Watcher):
        def begun(self, unit: Unit, resumed_: bool) -> None:
            resumed.append((unit.id, resumed_))

    found = sweep(Recipe.read(recipe), OVER, out, trials=4, root=recipe.parent, watch=lambda read: Notes())
    assert found["trials"][:4] == whole["trials"][:4]
    assert resumed == [("adapter/a/0", True), ("adapter/a/0", False), ("adapter/a/0", False)]


@pytest.mark.slow
def test_two_processes_share_the_trials_of_one_sweep(recipe: Path) -> None:
    out = recipe.parent / "shared"
    other = command(recipe, out, 6)
    over = time.monotonic() + 240
    while not (out / "claims" / "trials" / "0000.json").exists() and other.poll() is None and time.monotonic() < over:
        time.sleep(0.01)
    found = sweep(Recipe.read(recipe), OVER, out, trials=6, root=recipe.parent)
    assert other.wait(240) == 0, other.communicate()[1]
    logs = [(out / "trials" / one["trial"] / "units/adapter/a/0/log.txt").read_text() for one in found["trials"]]
    assert len(logs) == 6 and all(log.count(" begins\n") == 1 and log.count(" done\n") == 1 for log in logs)
    assert {log.splitlines()[0].split(":")[3] for log in logs} == {str(other.pid), str(os.getpid())}
    assert read_sweep(out) == found and all(one["state"] == "done" for one in found["trials"])


@pytest.mark.slow
def test_a_trial_that_is_stopped_early_is_written_down_as_pruned(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    class Later(optuna.pruners.BasePruner):
        """Stops all but the first trial after their first epoch."""

        def prune(self, study: Any, trial: Any) -> bool:
            return bool(trial.number)

    monkeypatch.setattr(optuna.pruners, "MedianPruner", Later)
    out = recipe.parent / "pruned"
    over = {"adapter.reduction_factor": [2, 4]}
    found = sweep(Recipe.read(recipe), over, out, root=recipe.parent)
    assert [(one["state"], one["score"] is None) for one in found["trials"]] == [("done", False), ("pruned", True)]
    assert found["best"] == "0000"
    unit = out / "trials" / "0001" / "units/adapter/a/0"
    assert unit.is_dir() and not (unit / "result.json").exists() and not (unit / "checkpoints").exists()
    assert not (unit / "error.txt").exists()  # it did not fail
    assert sweep(Recipe.read(recipe), over, out, root=recipe.parent) == found


# -- with a stub for the training --------------------------------------------------------------------------------------

Scores = Callable[[Recipe], Sequence[float]]


def stub(monkeypatch: pytest.MonkeyPatch, scores: Scores) -> list[str]:
    """Replace the run of a trial by one with these scores on the dev rows, an epoch each; gives what it trained."""
    trained: list[str] = []

    def trains(recipe: Recipe, out: Path, *, root: Path, watcher: Watcher) -> dict[str, Any]:
        units = plan(recipe)
        watcher.planned(units, {})
        results = []
        for unit in units:
            trained.append(f"{out.name} {unit.id}")
            every = scores(recipe)
            for epoch, score in enumerate(every, 1):
                watcher.logged(unit, epoch, {"eval_score": score})
            both = {"dev": {"accuracy": max(every)}, "test": {"accuracy": 1 - max(every)}}
            result = {"unit": unit.id, "kind": unit.kind, "task": unit.task, "metric": "accuracy", "scores": both}
            watcher.ended(unit, result)
            results.append(result)
        return {"units": results}

    monkeypatch.setattr(sweeping, "run", trains)
    return trained


def test_one_below_the_median_of_five_others_is_stopped(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(read: Recipe) -> list[float]:
        return [read.training.learning_rate, read.training.learning_rate + 0.1, 0.95]

    stub(monkeypatch, scores)
    over = {"training.learning_rate": [0.5, 0.5001, 0.5002, 0.5003, 0.5004, 0.1, 0.8]}
    found = sweep(Recipe.read(recipe), over, tmp_path / "out", root=recipe.parent)
    assert [one["state"] for one in found["trials"]] == ["done"] * 5 + ["pruned", "done"]


def test_the_best_is_the_one_that_is_best_on_the_dev_rows(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(monkeypatch, lambda read: [read.training.learning_rate])
    over = {"training.learning_rate": [0.2, 0.6, 0.4]}  # the stub's scores on test rows are the other way round
    found = sweep(Recipe.read(recipe), over, tmp_path / "out", root=recipe.parent)
    assert found["best"] == "0001" and [one["score"] for one in found["trials"]] == [0.2, 0.6, 0.4]
    assert Recipe.read(tmp_path / "out" / "best.toml").training.learning_rate == 0.6


def test_of_the_same_values_only_one_is_trained(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = stub(monkeypatch, lambda read: [0.5])
    over = {"training.epochs": [1, 2], "adapter.reduction_factor": "2..3"}
    found = sweep(Recipe.read(recipe), over, tmp_path / "out", trials=12, root=recipe.parent)
    assert len(found["trials"]) == 12 and len(trained) == len({str(one["values"]) for one in found["trials"]}) <= 4


def test_one_that_fails_is_written_down_and_the_others_go_on(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(read: Recipe) -> list[float]:
        if read.training.learning_rate == 0.6:
            raise gw.TrainingError("the loss is nan at step 3")
        return [read.training.learning_rate]

    stub(monkeypatch, scores)
    over = {"training.learning_rate": [0.2, 0.6, 0.4]}
    found = sweep(Recipe.read(recipe), over, tmp_path / "out", root=recipe.parent)
    assert [one["state"] for one in found["trials"]] == ["done", "failed", "done"] and found["best"] == "0002"
    assert found["trials"][1]["why"] == "the loss is nan at step 3"


def test_where_all_fail_there_is_no_best(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scores(read: Recipe) -> list[float]:
        raise gw.TrainingError("the loss is nan at step 3")

    stub(monkeypatch, scores)
    with pytest.raises(gw.TrainingError, match=r"no trial of .* has a score: the loss is nan at step 3"):
        sweep(Recipe.read(recipe), {"training.epochs": [1, 2]}, tmp_path / "out", root=recipe.parent)
    assert not (tmp_path / "out" / "best.toml").exists()


def test_where_nothing_can_be_written_it_ends_and_the_trial_goes_on_later(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise gw.TrainingError("cannot be written") from error

    monkeypatch.setattr(sweeping, "run", full)
    over = {"training.learning_rate": [0.2, 0.6]}
    with pytest.raises(gw.TrainingError, match="cannot be written"):
        sweep(Recipe.read(recipe), over, tmp_path / "out", root=recipe.parent)
    stub(monkeypatch, lambda read: [read.training.learning_rate])
    found = sweep(Recipe.read(recipe), over, tmp_path / "out", root=recipe.parent)
    assert [one["score"] for one in found["trials"]] == [0.2, 0.6]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"over": {"training.epochs": [1, 3]}}, "was begun with another over"),
        ({"kind": "head"}, "was begun with another kind"),
        ({"text": SMALL.replace("epochs = 2", "epochs = 4")}, "was begun with another recipe"),
    ],
)
def test_another_sweep_in_the_same_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Mapping[str, Any], said: str
) -> None:
    stub(monkeypatch, lambda read: [0.5])
    path = make_tiny(tmp_path, SMALL)
    sweep(Recipe.read(path), {"training.epochs": [1, 2]}, tmp_path / "out", root=tmp_path)
    path.write_text(change.get("text", SMALL))
    over = change.get("over", {"training.epochs": [1, 2]})
    with pytest.raises(gw.RecipeError, match=said):
        sweep(Recipe.read(path), over, tmp_path / "out", root=tmp_path, kind=change.get("kind"))


def test_a_folder_of_something_else_is_refused(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(gw.RecipeError, match="something else than a sweep"):
        sweep(Recipe.read(recipe), {"training.epochs": [1, 2]}, tmp_path, root=recipe.parent)
    with pytest.raises(gw.RecipeError, match="no folder of a sweep"):
        read_sweep(tmp_path)


def test_a_value_that_the_base_cannot_have_is_refused_before_anything_is_written(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(gw.RecipeError, match="has positions for 512 tokens"):
        sweep(Recipe.read(recipe), {"base.max_length": [16, 1024]}, tmp_path / "out", root=recipe.parent)
    with pytest.raises(gw.errors.ConfigError, match="trials is 0"):
        sweep(Recipe.read(recipe), {"training.epochs": [1, 2]}, tmp_path / "out", trials=0, root=recipe.parent)
    assert not (tmp_path / "out").exists()
