"""What is trained over a pool of LoRAs: a mean of outputs, a mean of weights, a gate that each brings along, a trained gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import graftwork as gw
from graftwork.experiments import Recipe, run
from graftwork.experiments.running.run import read_tasks
from graftwork.inference import Predictor
from tests.support.tiny_run import RECIPE, make_tiny

CONTROLS = ("average", "merge", "arrow", "route")
LORAS = RECIPE.replace("reduction_factor = 4", 'method = "lora"\nrank = 3\ntargets = ["query", "value"]').replace(
    'targets = ["a"]', 'targets = ["a"]\ncontrols = ["average", "merge", "arrow", "route"]\nroute = {top_k = 1}', 1
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pools")
    make_tiny(folder, LORAS)
    return folder


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    return Recipe.read(folder / "recipe.toml")


@pytest.fixture(scope="module")
def results(folder: Path, recipe: Recipe) -> dict[str, Any]:
    return run(recipe, folder / "run", root=folder)


@pytest.mark.parametrize("kind", CONTROLS)
def test_what_was_scored_is_predicted_from_the_files(
    kind: str, folder: Path, recipe: Recipe, results: dict[str, Any]
) -> None:
    (unit,) = (unit for unit in results["units"] if unit["kind"] == kind)
    task = read_tasks(recipe, folder)["a"]
    predictions = Predictor(folder / "run", kind=kind).predict(task.dev)
    assert task.score(predictions, task.dev) == pytest.approx(unit["scores"]["dev"], abs=1e-6)


def test_gates_are_reported_as_attention(results: dict[str, Any]) -> None:
    attention = {unit["kind"]: unit.get("attention") for unit in results["units"] if unit["kind"] in CONTROLS}
    assert attention["average"] is None and attention["merge"] is None
    for kind in ("arrow", "route"):
        assert attention[kind]


def test_merged_weights_are_the_mean(folder: Path, results: dict[str, Any]) -> None:
    predictor = Predictor(folder / "run", kind="merge")
    adapters = predictor.adapters
    for key, module in adapters.modules_of("merge-a-weights").items():
        for name, weight in module.named_parameters():
            both = [adapters.modules_of(task)[key].get_parameter(name) for task in ("a", "b")]
            assert (weight - (both[0] + both[1]) / 2).abs().max() < 1e-7


def test_arrow_over_bottlenecks_is_refused_before_anything_is_trained(recipe: Recipe) -> None:
    given = recipe.model_dump(exclude_unset=True, mode="json")
    with pytest.raises(gw.RecipeError, match=r'arrow chooses among LoRAs.*method = "lora"'):
        Recipe.make({**given, "adapter": {"method": "pfeiffer"}})
    with pytest.raises(gw.RecipeError, match="top_k is 0"):
        Recipe.make({**given, "route": {"top_k": 0}})
