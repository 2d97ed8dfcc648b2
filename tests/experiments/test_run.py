"""A run from end to end: what is written, what is refused, what is predicted from its files."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

import graftwork as gw
import graftwork.training
from graftwork.experiments import Recipe, Unit, Watcher, estimate, plan, run
from graftwork.inference import Predictor
from graftwork.tasks import Task
from graftwork.training.task_trainer import ByLength, TaskTrainer
from tests.support.tiny_run import make_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    return Recipe.read(make_tiny(folder))


@pytest.fixture(scope="module")
def results(folder: Path, recipe: Recipe) -> dict[str, Any]:
    return run(recipe, folder / "run", root=folder)


def test_every_unit_is_in_the_results(results: dict[str, Any], recipe: Recipe) -> None:
    assert [u["unit"] for u in results["units"]] == [u.id for u in plan(recipe)]
    assert results["complete"]
    for unit in results["units"]:
        assert math.isfinite(unit["score"]) and unit["trained_weights"] > 0 and unit["file_bytes"] > 0
        assert unit["score"] == unit["scores"][unit["scored_on"]][unit["metric"]]
        assert unit["best_epoch"] <= unit["epochs"] == len(unit["curves"]["score"])


def test_the_kept_weights_are_those_of_the_best_epoch(results: dict[str, Any]) -> None:
    for unit in results["units"]:
        curve = dict(map(tuple, unit["curves"]["score"]))
        assert unit["scores"]["dev"][unit["metric"]] == pytest.approx(curve[unit["best_epoch"]])


def test_the_attention_of_a_fusion_is_a_mean_over_its_adapters(results: dict[str, Any]) -> None:
    fusion = next(u for u in results["units"] if u["kind"] == "fusion")
    assert fusion["attention"]["adapters"] == [m.split("/")[1] for m in fusion["members"]]
    assert all(sum(w) == pytest.approx(1, abs=1e-4) for w in fusion["attention"]["sites"].values())
    own = next(u for u in results["units"] if u["kind"] == "own")
    assert all(w == [1.0] for w in own["attention"]["sites"].values())


def test_what_is_done_is_not_done_again(folder: Path, recipe: Recipe, results: dict[str, Any]) -> None:
    class Nothing(Watcher):
        def begun(self, unit: Unit, resumed: bool) -> None:
            raise AssertionError(f"{unit.id} was done")

    assert run(recipe, folder / "run", root=folder, watcher=Nothing()) == results


def test_a_row_counts_the_seeds_of_the_recipe_alone(results: dict[str, Any], recipe: Recipe) -> None:
    assert len([u for u in results["units"] if (u["kind"], u["task"]) == ("adapter", "a")]) == 2  # one is a copy
    assert all(row["seeds"] == list(recipe.seeds) for row in results["targets"])


def test_damaged_files_of_a_run_are_named(folder: Path, results: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run" / "recipe.json").write_text("{")
    with pytest.raises(gw.RecipeError, match=r"recipe\.json is damaged"):
        Predictor(tmp_path / "run")


def test_adapters_are_small_files_and_no_checkpoint_is_left(folder: Path, results: dict[str, Any]) -> None:
    files = [p for p in (folder / "run").rglob("*") if p.is_file()]
    assert not [p for p in files if "checkpoint" in str(p)]
    assert all(p.stat().st_size < 100_000 for p in files if p.suffix == ".safetensors")


@pytest.mark.parametrize("kind", ["fusion", "adapter", "head", "average", "own", "copies"])
def test_a_fresh_model_predicts_what_was_scored(folder: Path, results: dict[str, Any], kind: str) -> None:
    predictor = Predictor(folder / "run", "a", kind=kind)
    task = Task.read("a", predictor.spec, folder)
    predictions = predictor.predict([{"text": row["text"]} for row in task.dev])
    unit = next(u for u in results["units"] if u["unit"] == predictor.unit.id)
    assert task.score(predictions, task.dev) == pytest.approx(unit["scores"]["dev"])


def test_predicting_what_is_not_there(folder: Path, results: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(gw.RecipeError, match="no folder of a run"):
        Predictor(tmp_path)
    with pytest.raises(gw.RecipeError, match="'x' is no task"):
        Predictor(folder / "run", "x")
    with pytest.raises(gw.RecipeError, match="not kept"):
        Predictor(folder / "run", "a", kind="full")
    with pytest.raises(gw.RecipeError, match="seed 9"):
        Predictor(folder / "run", "a", seed=9)
    with pytest.raises(gw.TaskError, match="text"):
        Predictor(folder / "run", "a").predict([{"txt": "x"}])


def test_another_recipe_is_refused_and_a_longer_one_is_not(folder: Path, recipe: Recipe, results: Any) -> None:
    other = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 9})})
    with pytest.raises(gw.RecipeError, match=r"training\.epochs"):
        run(other, folder / "run", root=folder)
    fewer = recipe.model_copy(update={"controls": recipe.controls[1:]})
    with pytest.raises(gw.RecipeError, match="controls"):
        run(fewer, folder / "run", root=folder)


def test_a_folder_in_use_says_by_whom(
    folder: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graftwork.experiments.running.run._WAIT", 0.1)
    (tmp_path / "run").mkdir()
    with FileLock(str(tmp_path / "run" / ".lock")):
        (tmp_path / "run" / ".holder.json").write_text(json.dumps({"process": 42, "host": "here", "since": "now"}))
        with pytest.raises(gw.RecipeError, match="in use by process 42 on here"):
            run(recipe, tmp_path / "run", root=folder)


def test_a_loss_that_is_no_number_stops_the_run(
    folder: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = gw.training.AdapterTrainer.training_step, []

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        loss = step(self, *args, **kwargs)
        return loss * float("nan") if len(calls) == 7 else loss

    monkeypatch.setattr(gw.training.AdapterTrainer, "training_step", broken)
    with pytest.raises(gw.TrainingError, match=r"the loss is nan at step 7 of \d+ \(epoch 2\.00\)"):
        run(recipe, tmp_path / "run", root=folder)
    assert list((tmp_path / "run").rglob("checkpoint-*/finished"))  # that of the first epoch
    monkeypatch.undo()
    assert run(recipe, tmp_path / "run", root=folder)["complete"]


def test_a_full_disk_is_said_and_nothing_is_lost(
    folder: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import graftwork.checkpoint.folders as folders

    write, left = folders._write, [12]

    def full(path: Path, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device", str(path))
        write(path, data)

    monkeypatch.setattr(folders, "_write", full)
    with pytest.raises(gw.TrainingError, match="No space left on device"):
        run(recipe, tmp_path / "run", root=folder)
    monkeypatch.undo()
    assert run(recipe, tmp_path / "run", root=folder)["complete"]


def test_the_estimate_counts_what_is_done(folder: Path, recipe: Recipe, results: dict[str, Any]) -> None:
    new, old = estimate(recipe, root=folder), estimate(recipe, root=folder, run=folder / "run")
    assert sum(row.units for row in new.rows) == len(plan(recipe)) and new.seconds > 0
    assert old.seconds == 0 and all(row.done == row.units for row in old.rows)
    weights = {(u["kind"], u["task"]): u["trained_weights"] for u in results["units"]}
    assert {(row.kind, row.task): row.trained_weights for row in new.rows} == weights
    assert "at most" in str(new)


def test_logs_for_tensorboard_outlive_the_checkpoints(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    short = recipe.training.model_copy(update={"tensorboard": True, "epochs": 1})
    run(recipe.model_copy(update={"training": short, "targets": ()}), tmp_path / "run", root=folder)
    logs = list((tmp_path / "run" / "tensorboard" / "adapter" / "a" / "0").glob("events.*"))
    assert logs and logs[0].stat().st_size > 500


def test_a_base_that_cannot_be_loaded_is_named(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    wrong = recipe.model_copy(update={"base": recipe.base.model_copy(update={"model": "nowhere/at-all"})})
    with pytest.raises(gw.RecipeError, match=r"nowhere/at-all"):
        run(wrong, tmp_path / "run", root=folder)


def test_rows_of_like_length_share_a_batch_and_every_epoch_is_another() -> None:
    lengths = [n % 17 for n in range(203)]
    now = [0.0]
    sampler = ByLength(lengths, 8, 3, lambda: now[0])
    first, again = list(sampler), list(sampler)
    now[0] = 1.0
    second = list(sampler)
    assert first == again != second and sorted(first) == sorted(second) == list(range(203)) and len(sampler) == 203
    spans = [
        max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in (first[n : n + 8] for n in range(0, 200, 8))
    ]
    assert sorted(spans)[len(spans) // 2] <= 2
    assert list(ByLength(lengths, 8, 4, lambda: 1.0)) != second


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_trainer_is_one_for_adapters() -> None:
    assert issubclass(TaskTrainer, gw.training.AdapterTrainer)
