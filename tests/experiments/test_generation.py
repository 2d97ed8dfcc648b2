"""Tasks that a decoder answers, through the whole job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from graftwork.attach import ModelWithHeads
from graftwork.errors import RecipeError, TrainingError
from graftwork.experiments import Recipe, estimate, run
from graftwork.experiments.planning.checks import check_before
from graftwork.experiments.planning.plan import plan
from graftwork.inference import Predictor
from graftwork.report import tables
from graftwork.tasks import Task
from tests.support.tiny_generation_run import generation_recipe


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("generation")
    recipe = generation_recipe(folder)
    return folder, recipe, run(recipe, folder / "run", root=folder)


def test_every_row_of_the_tables(done: tuple[Path, Recipe, dict[str, Any]]) -> None:
    _, _, results = done
    for target, metric in (("upper", "rougeL"), ("judge", "accuracy")):
        rows = {row["kind"]: row for row in results["targets"] if row["task"] == target}
        assert set(rows) == {"zero_shot", "few_shot", "adapter", "mt_shared", "average", "fusion"}
        assert {row["metric"] for row in rows.values()} == {metric}
        assert [kind for kind, row in rows.items() if not row["trained_weights"]] == [
            "zero_shot",
            "few_shot",
            "average",
        ]
    assert [row["task"] for row in results["sources"]] == ["talk"]
    (upper, *_) = tables(results)
    assert [line[0] for line in upper.rows][:2] == ["base, zero-shot", "base, few-shot"]


def test_an_adapter_has_no_head_of_its_own(done: tuple[Path, Recipe, dict[str, Any]]) -> None:
    folder, _, results = done
    for unit in results["units"]:
        for file in (folder / "run" / "units" / unit["unit"]).rglob("*.safetensors"):
            with safe_open(file, "pt") as saved:
                assert all(260 not in saved.get_slice(key).get_shape() for key in saved.keys())  # noqa: SIM118 - no dict


@pytest.mark.parametrize("task", ["upper", "judge"])
@pytest.mark.parametrize("kind", ["zero_shot", "adapter", "mt_shared", "average", "fusion"])
def test_what_was_scored_is_predicted_from_the_files(
    done: tuple[Path, Recipe, dict[str, Any]], task: str, kind: str
) -> None:
    folder, recipe, results = done
    found = Task.read(task, recipe.tasks[task], folder)
    predictions = Predictor(folder / "run", task, kind=kind).predict(found.dev)
    (row,) = [row for row in results["targets"] if (row["task"], row["kind"]) == (task, kind)]
    assert found.score(predictions, found.dev)[found.metric] == pytest.approx(row["mean"], abs=1e-6)
    if task == "judge":
        assert all(set(one.probabilities or {}) == {"yes", "no"} for one in predictions)


def test_in_bfloat16_answers_are_generated_when_scored_as_when_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-2, "bf16": True}
    recipe = generation_recipe(tmp_path, targets=["upper"], controls=[], training=training)
    precisions = []
    generate = ModelWithHeads.generate

    def watched(self: ModelWithHeads, *args: Any, **kwargs: Any) -> Any:
        precisions.append(torch.is_autocast_enabled("cpu"))
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(ModelWithHeads, "generate", watched)
    run(recipe, tmp_path / "run", root=tmp_path)
    scored = len(precisions)
    Predictor(tmp_path / "run", "upper").predict([{"prompt": "a nice film"}])
    assert 0 < scored < len(precisions) and all(precisions)


def test_a_measurement_is_not_kept(done: tuple[Path, Recipe, dict[str, Any]]) -> None:
    with pytest.raises(RecipeError, match="base, few-shot is measured and not kept to predict with"):
        Predictor(done[0] / "run", "upper", kind="few_shot")


def test_how_answers_are_generated_can_be_changed(done: tuple[Path, Recipe, dict[str, Any]]) -> None:
    predictor = Predictor(done[0] / "run", "upper")
    rows = [{"prompt": "a nice film"}]
    predictor.generate_with(max_new_tokens=1, temperature=None)
    assert len(predictor.predict(rows)[0].value) <= 1 and predictor.spec.temperature is None
    with pytest.raises(RecipeError, match="top_p: Input should be less than or equal to 1"):
        predictor.generate_with(top_p=2.0)


def test_a_dry_run_counts_no_steps_of_the_base(done: tuple[Path, Recipe, dict[str, Any]]) -> None:
    folder, recipe, _ = done
    steps = {row.kind: row.steps for row in estimate(recipe, root=folder).rows if row.task == "upper"}
    assert (steps["zero_shot"], steps["few_shot"], steps["average"], steps["adapter"]) == (0, 0, 0, 2)


def test_by_default_the_base_has_its_rows(tmp_path: Path) -> None:
    given = generation_recipe(tmp_path).model_dump(exclude_unset=True, mode="json")
    del given["controls"]
    kinds = [unit.kind for unit in plan(Recipe.make(given)) if unit.task == "upper"]
    assert {"zero_shot", "few_shot", "full", "average"} < {*kinds} and "head" not in kinds
    del given["tasks"]["upper"]["shots"]
    assert "few_shot" not in [unit.kind for unit in plan(Recipe.make(given)) if unit.task == "upper"]


def test_packed_rows_are_fewer_batches(tmp_path: Path) -> None:
    recipe = generation_recipe(tmp_path, targets=[], controls=[])
    given = recipe.model_dump(exclude_unset=True, mode="json")
    for name in ("upper", "talk"):
        given["tasks"][name]["packing"] = True
    results = run(Recipe.make(given), tmp_path / "run", root=tmp_path)
    steps = {unit["task"]: unit["steps"] for unit in results["units"]}
    assert steps == {"upper": 1, "talk": 1, "judge": 2}
    given["adapter"] = {"method": "pal", "size": 8, "heads": 2}
    with pytest.raises(TrainingError, match="packing = true, and an adapter reads other positions"):
        run(Recipe.make(given), tmp_path / "other", root=tmp_path)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        (
            "tasks",
            {"shots": 0},
            "controls: few_shot puts training rows before a prompt; say how many in a target's task",
        ),
        ("tasks", {"kind": "classification"}, "zero_shot asks the base in words, and no target is answered in words"),
        ("", {"together": 2}, "together is 2 and tasks.upper.packing is true"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, table: str, change: dict[str, Any], message: str) -> None:
    recipe = generation_recipe(tmp_path, targets=["upper"], controls=["few_shot", "zero_shot"])
    given = recipe.model_dump(exclude_unset=True, mode="json")
    given["tasks"]["upper"]["packing"] = True
    if change.get("kind"):
        given["tasks"]["upper"] = {"data": "upper"}
    (given["tasks"]["upper"] if table else given).update(change)
    with pytest.raises(RecipeError, match=message):
        Recipe.make(given)


def test_no_room_for_a_prompt(tmp_path: Path) -> None:
    given = generation_recipe(tmp_path).model_dump(exclude_unset=True, mode="json")
    given["tasks"]["upper"]["max_new_tokens"] = 256
    with pytest.raises(
        RecipeError, match=r"tasks\.upper\.max_new_tokens is 256, and base\.max_length = 256 is of prompt"
    ):
        check_before(Recipe.make(given), str(tmp_path / "base"))
