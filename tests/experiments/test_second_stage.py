"""A base tuned over the adapters of what a task knows: these fixed, or trained with it; files, predictions, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import graftwork as gw
from graftwork.experiments import Recipe, estimate, plan, run
from graftwork.experiments.running.folder import read_predictions
from graftwork.inference import Predictor
from graftwork.report import tables, write_report
from graftwork.tasks import Task
from tests.experiments.test_languages import prepare

TASK = {"data": "a", "knowledge": "facts", "pooling": "mean", "base": "trained"}
TABLES: dict[str, Any] = {
    "base": {"model": "base", "max_length": 12},
    "knowledge": {"facts": {"triples": "facts.tsv", "templates": {"likes": "{subject} likes the {object} ."}}},
    "knowledge_adapter": {"bottleneck_size": 4},
    "tasks": {"fixed": TASK, "trained": {**TASK, "adapters": "trained"}},
    "training": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tuned")
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    return run(Recipe.make(TABLES), folder / "run", root=folder)


def test_the_base_learns_and_its_adapters_only_where_the_task_says_so(results: dict[str, Any], folder: Path) -> None:
    units = {unit["task"]: unit for unit in results["units"]}
    assert [unit["unit"] for unit in results["units"]] == ["knowledge/facts/0", "tuned/fixed/0", "tuned/trained/0"]
    assert units["fixed"]["under"] == ["knowledge/facts/0"]
    more = units["trained"]["trained_weights"] - units["fixed"]["trained_weights"]
    at = folder / "run" / "units"
    before = weights(at / "knowledge/facts/0/adapter")
    assert more == sum(tensor.numel() for name, tensor in before.items() if "head" not in name) > 0
    assert not (at / "tuned/fixed/0/adapters").exists()
    after = weights(at / "tuned/trained/0/adapters/facts")
    assert any(not torch.equal(before[name], after[name]) for name in after)
    assert {
        row.kind: row.trained_weights for row in estimate(Recipe.make(TABLES), root=folder).rows if row.task == "fixed"
    } == {"tuned": units["fixed"]["trained_weights"]}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("task", ["fixed", "trained"])
def test_a_fresh_model_predicts_what_was_scored(folder: Path, results: dict[str, Any], task: str) -> None:
    predictor = Predictor(folder / "run", task)
    assert predictor.unit.kind == "tuned"
    found = [p.value for p in predictor.predict(Task.read(task, predictor.spec, folder).dev)]
    assert found == read_predictions(predictor.unit.folder(folder / "run"))[task]


def test_it_stands_among_the_sources_or_in_the_row_of_a_target(results: dict[str, Any]) -> None:
    assert [(row["task"], row["kind"]) for row in results["sources"]] == [("fixed", "tuned"), ("trained", "tuned")]
    assert any(table.title.startswith("Sources") and len(table.rows) == 2 for table in tables(results))
    made = Recipe.make(
        {**TABLES, "targets": ["fixed"], "fuse": False, "controls": ["adapter", "full"], "methods": {"low_rank": {}}}
    )
    assert [unit.label for unit in plan(made)] == ["knowledge", "tuned", "full", "method-low_rank"]


@pytest.mark.parametrize(
    ("task", "more", "said"),
    [
        ({"base": "trained"}, {}, "over the adapters of its knowledge, and it has none"),
        ({"adapters": "trained"}, {}, '"trained" is together with the base; say base = "trained" too'),
        ({**TASK, "beside": "facts", "knowledge": "other"}, {}, "the adapter of its beside is for the base as it was"),
        (TASK, {"targets": ["t"]}, "it has no adapter that fusion could use; say fuse = false"),
    ],
)
def test_what_does_not_go_with_it_is_refused(task: dict[str, Any], more: dict[str, Any], said: str) -> None:
    knowledge = {**TABLES["knowledge"], "other": TABLES["knowledge"]["facts"]}
    given = {**TABLES, "knowledge": knowledge, "tasks": {"t": {"data": "a", **task}, "u": {"data": "a"}}, **more}
    if "beside" in task:
        given["targets"] = ["t"]
    with pytest.raises(gw.RecipeError) as caught:
        Recipe.make(given)
    assert said in str(caught.value)


def test_the_published_second_stage_of_a_k_adapter(folder: Path, tmp_path: Path) -> None:
    small = {"method": "k_adapter", "size": 8, "heads": 2, "inner": 16}
    made = Recipe.make({**TABLES, "knowledge_adapter": small})
    found = {unit["task"]: unit for unit in run(made, tmp_path / "run", root=folder)["units"]}
    assert found["trained"]["trained_weights"] > found["fixed"]["trained_weights"]
    for task in ("fixed", "trained"):
        predictor = Predictor(tmp_path / "run", task)
        values = [p.value for p in predictor.predict(Task.read(task, predictor.spec, folder).dev)]
        assert values == read_predictions(predictor.unit.folder(tmp_path / "run"))[task]


def test_its_report_has_its_curves(folder: Path, results: dict[str, Any]) -> None:
    assert {"curves-fixed.png", "curves-trained.png"} <= {p.name for p in write_report(folder / "run", plots=True)}
