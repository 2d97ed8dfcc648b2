"""A run with class weights, a threshold and a temperature of its dev rows, early stopping by the loss, and precision by machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from graftwork.errors import RecipeError
from graftwork.experiments import Recipe, run
from graftwork.experiments.running.folder import read_predictions
from graftwork.inference import Predictor
from graftwork.inference.evaluating import evaluate
from graftwork.tasks import read_rows
from tests.support.tiny_run import make_tiny

TEXT = """
targets = ["a"]
fuse = false
controls = ["adapter", "head"]
seeds = [0, 1]

[base]
model = "base"
max_length = 16

[tasks.a]
train = "a/train.jsonl"
dev = "a/dev.jsonl"
test = "b/train.jsonl"
pooling = "mean"
class_weights = "balanced"
threshold = "dev"
calibrate = true
positive = "pos"
metrics = ["f1", "accuracy"]

[training]
epochs = 4
batch_size = 8
accumulation = 2
learning_rate = 1e-2
precision = "auto"
early_stopping = {metric = "loss", patience = 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"), TEXT).parent


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    return run(Recipe.read(folder / "recipe.toml"), folder / "run", root=folder)


def test_each_unit_keeps_its_own_threshold_and_temperature(results: dict[str, Any]) -> None:
    decisions = [unit["decision"] for unit in results["units"]]
    assert len(decisions) == 4 and all(0 < one["threshold"] < 1 and one["temperature"] > 0 for one in decisions)
    assert len({one["threshold"] for one in decisions}) == 4


def test_a_run_predicts_by_them_as_it_was_scored(results: dict[str, Any], folder: Path) -> None:
    rows = read_rows(folder / "b" / "train.jsonl")
    for kind in ("adapter", "head"):
        predictor = Predictor(folder / "run", "a", kind=kind, seed=1)
        unit = next(unit for unit in results["units"] if unit["unit"] == predictor.unit.id)
        found = predictor.predict(rows)
        assert [one.value for one in found] == read_predictions(folder / "run" / "units" / kind / "a" / "1")["a"]
        for one in found:
            chance = (one.probabilities or {})["pos"]
            assert (chance > unit["decision"]["threshold"]) == (one.value == "pos")
        assert evaluate(predictor, rows).metrics["f1"] == pytest.approx(unit["scores"]["test"]["f1"])


def test_they_are_chosen_by_the_dev_rows_alone(results: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    """Test rows with the opposite labels change the score and neither of them."""
    shutil.copytree(folder, tmp_path / "other", ignore=shutil.ignore_patterns("run"))
    file = tmp_path / "other" / "b" / "train.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    turned = [{**row, "label": "neg" if row["label"] == "pos" else "pos"} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in turned))
    other = run(Recipe.read(tmp_path / "other" / "recipe.toml"), tmp_path / "run", root=tmp_path / "other")
    for before, after in zip(results["units"], other["units"], strict=True):
        assert after["decision"] == before["decision"] and after["score"] != before["score"]


def test_a_training_stops_one_epoch_after_its_lowest_loss(results: dict[str, Any]) -> None:
    for unit in results["units"]:
        assert unit["epochs"] == min(unit["best_epoch"] + 1, 4)


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ('class_weights = "balanced"', "", "tasks.a.class_weights"),
        ("calibrate = true", "", "tasks.a.calibrate"),
        ('threshold = "dev"', "threshold = 0.4", "tasks.a.threshold"),
        ('precision = "auto"', "", "training.precision"),
        ("patience = 1}", "patience = 2}", "training.early_stopping.patience"),
    ],
)
def test_a_changed_option_does_not_go_on_in_the_same_folder(
    results: dict[str, Any], folder: Path, before: str, after: str, key: str
) -> None:
    assert before in TEXT
    changed = folder / "changed.toml"
    changed.write_text(TEXT.replace(before, after))
    with pytest.raises(RecipeError, match=f"was begun with another recipe: {key} differs"):
        run(Recipe.read(changed), folder / "run", root=folder)


def test_a_run_that_was_made_before_there_were_these_options_goes_on(tmp_path: Path) -> None:
    """Its recipe and results say nothing of them."""
    plain = "\n".join(
        line
        for line in TEXT.splitlines()
        if not line.startswith(("threshold", "calibrate", "precision", "early", "seeds"))
    ).replace("epochs = 4", "epochs = 1")
    recipe = Recipe.read(make_tiny(tmp_path, plain))
    first = run(recipe, tmp_path / "run", root=tmp_path)
    assert not any("decision" in unit for unit in first["units"])
    assert run(recipe, tmp_path / "run", root=tmp_path) == first
    assert Predictor(tmp_path / "run", "a", kind="adapter").kind.decision.temperature == 1.0


def test_a_damaged_temperature_is_refused(results: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    file = tmp_path / "copy" / "run" / "units" / "adapter" / "a" / "0" / "result.json"
    damaged = json.loads(file.read_text())
    damaged["decision"]["temperature"] = 0.0
    file.write_text(json.dumps(damaged))
    with pytest.raises(RecipeError, match="decision"):
        Predictor(tmp_path / "copy" / "run", "a", kind="adapter", seed=0, root=tmp_path / "copy")
