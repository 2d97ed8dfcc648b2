"""Cross-validation in a recipe: each seed trains without one fold and is scored on it, at every kind of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftwork.errors import RecipeError
from graftwork.experiments import Recipe, compare, plan, run
from graftwork.experiments.running.folder import read_predictions
from graftwork.experiments.running.run import read_tasks
from graftwork.inference import Predictor
from graftwork.inference.evaluating import evaluate
from graftwork.report import tables
from graftwork.training.joint_trainer import JointTrainer
from graftwork.training.task_trainer import TaskTrainer
from tests.support.tiny_run import make_tiny

KINDS = ["adapter", "fusion", "average", "own", "full", "head", "mt_shared", "sequential", "sequential_adapters"]
TEXT = f"""
targets = ["a", "b"]
controls = {KINDS[2:]}

[base]
model = "base"
max_length = 16

[tasks.a]
train = "a/train.jsonl"
dev = "a/dev.jsonl"
test = "b/dev.jsonl"
pooling = "mean"
folds = 3

[tasks.b]
data = "b"
pooling = "mean"
folds = 3

[training]
epochs = 1
batch_size = 8
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"), TEXT).parent


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[dict[str, Any], list[tuple[str, int, Any]]]:
    """The results, and of every Trainer the task with the rows that it had, and its seed."""
    seen: list[tuple[str, int, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        for kind in (TaskTrainer, JointTrainer):
            plain = kind.train

            def train(self: Any, *args: Any, plain: Any = plain, **kwargs: Any) -> Any:
                for task in [one.task for one in self.encoded.values()] if hasattr(self, "routes") else [self.task]:
                    seen.append((task.name, self.args.seed, task))
                return plain(self, *args, **kwargs)

            patch.setattr(kind, "train", train)
        results = run(Recipe.read(folder / "recipe.toml"), folder / "run", root=folder)
    return results, seen


def test_without_seeds_there_is_one_for_each_fold(folder: Path) -> None:
    recipe = Recipe.read(folder / "recipe.toml")
    assert recipe.seeds == (0, 1, 2)
    assert {unit.kind for unit in plan(recipe)} == {*KINDS}


def test_every_training_leaves_out_the_fold_that_it_is_scored_on(folder: Path, trained: Any) -> None:
    results, seen = trained
    tasks = read_tasks(Recipe.read(folder / "recipe.toml"), folder)
    assert {(name, seed) for name, seed, _ in seen} == {(name, seed) for name in "ab" for seed in range(3)}
    for name, seed, task in seen:
        own = tasks[name].of_seed(seed)
        assert list(task.train) == list(own.train) and list(task.dev) == list(own.dev)
    for unit in plan(Recipe.read(folder / "recipe.toml")):
        for name, predicted in read_predictions(unit.folder(folder / "run")).items():
            assert len(predicted) == len(tasks[name].of_seed(unit.seed).dev)
    assert {row["scored_on"] for row in results["targets"]} == {"dev"}  # the rows of test are scored, and no headline
    assert all("test" in unit["scores"] for unit in results["units"] if unit["task"] == "a")


def test_members_that_are_of_the_target_have_its_fold(folder: Path) -> None:
    for unit in plan(Recipe.read(folder / "recipe.toml")):
        for member in unit.members:
            assert member.seed == unit.seed or member.task not in (unit.task, *unit.tasks)


@pytest.mark.parametrize("kind", ["adapter", "fusion", "average"])
def test_a_run_predicts_each_fold_as_it_was_scored(folder: Path, trained: Any, kind: str) -> None:
    tasks = read_tasks(Recipe.read(folder / "recipe.toml"), folder)
    for seed in range(3):
        predictor = Predictor(folder / "run", "a", kind=kind, seed=seed)
        result = next(unit for unit in trained[0]["units"] if unit["unit"] == predictor.unit.id)
        found = evaluate(predictor, tasks["a"].of_seed(seed).dev).metrics
        assert found["accuracy"] == pytest.approx(result["scores"]["dev"]["accuracy"])


def test_the_table_says_that_it_is_a_mean_over_folds(trained: Any) -> None:
    notes = [note for table in tables(trained[0]) for note in table.notes]
    assert "Each seed is trained on 2 of 3 folds and scored on the other: the mean is over all rows." in notes


def test_a_comparison_draws_the_rows_of_each_fold_by_themselves(folder: Path) -> None:
    found = compare(Recipe.read(folder / "recipe.toml"), ["head"], run=folder / "compared", root=folder, costs=False)
    tasks = read_tasks(Recipe.read(folder / "recipe.toml"), folder)
    for target in found["targets"]:
        task = tasks[target["task"]]
        assert target["rows_scored"] == sum(map(len, task.folds))
        head = next(row for row in target["rows"] if row["line"] == "head")
        full = next(row for row in target["rows"] if row["line"] == "full")
        assert head["against_full"]["value"] == pytest.approx(np.subtract(head["scores"], full["scores"]).mean())
        assert head["against_full"]["low"] <= head["against_full"]["value"] <= head["against_full"]["high"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('["a", "b"]', '["a"]', r"tasks.b.folds is 3, and only a target is trained with every seed.*targets = \['b'\]"),
        ('["a", "b"]', '["a", "b"]\nseeds = [0, 1]', r"tasks.a.folds is 3.*seeds 0, 1 some folds.*seeds = \[0, 1, 2\]"),
        ('["a", "b"]', '["a", "b"]\nseeds = [0, 1, 2, 3]', "some folds are scored more often"),
        ('"full",', '"full", "copies",', "copies fuses adapters of other seeds"),
        ("folds = 3", "folds = 1", "tasks.a.folds"),
    ],
)
def test_what_folds_cannot_be_with(before: str, after: str, message: str) -> None:
    changed = TEXT.replace("'", '"').replace(before, after, 1)
    assert changed != TEXT
    with pytest.raises(RecipeError, match=message):
        Recipe.parse(changed)


def test_the_default_controls_leave_copies_out_with_folds() -> None:
    recipe = Recipe.parse("\n".join(line for line in TEXT.splitlines() if not line.startswith("controls")))
    assert "copies" in recipe.wanted and "copies" not in {unit.kind for unit in plan(recipe)}
