"""One adapter that serves several tasks, in recipes: trained on all of them at once, joined later, compared, refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import graftwork as gw
from graftwork.experiments import Recipe, Unit, comparison, estimate, plan, run
from graftwork.experiments.kinds.joint import MT_SHARED
from graftwork.experiments.running.folder import read_predictions
from graftwork.experiments.running.run import read_tasks
from graftwork.experiments.running.run_context import RunContext
from graftwork.inference import Predictor, Several
from graftwork.report import write_report
from graftwork.report.together_tables import together_tables
from graftwork.tasks import Task
from tests.support.tiny_run import RECIPE, make_tiny

HYPER = {"method": "hyperformer_plus_plus", "reduction_factor": 4, "embedding_size": 8, "hidden_size": 16}
TEXT = RECIPE.replace('targets = ["a"]', 'targets = ["a", "b", "c"]\nfuse = false\ncontrols = ["adapter"]').replace(
    "epochs = 3", "epochs = 2"
)
MORE = """
[tasks.c]
data = "a"
pooling = "mean"

[methods.hyper]
method = "hyperformer_plus_plus"
tasks = ["a", "b"]
reduction_factor = 4
embedding_size = 8
hidden_size = 16
"""
GIVEN: dict[str, Any] = {"base": {"model": "m"}, "tasks": {name: {"data": name} for name in "abc"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("serving")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    return Recipe.read(make_tiny(folder, TEXT + MORE))


@pytest.fixture(scope="module")
def results(folder: Path, recipe: Recipe) -> dict[str, Any]:
    return run(recipe, folder / "run", root=folder)


def ids(**changes: Any) -> list[str]:
    return [unit.id for unit in plan(Recipe.make({**GIVEN, **changes}))]


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_one_adapter_serves_all_tasks_wherever_it_is_named() -> None:
    assert ids(adapter=HYPER) == ["mt_shared/all-tasks/0"]
    of_targets = {"targets": ["a", "b"], "fuse": False, "seeds": [0, 1]}
    assert ids(adapter=HYPER, **of_targets, controls=["mt_shared"]) == [
        "mt_shared/all-tasks/0",
        "mt_shared/all-tasks/1",
    ]
    assert ids(methods={"h": HYPER}, **of_targets, controls=[]) == [f"mt_shared-h/all-tasks/{seed}" for seed in (0, 1)]
    (unit,) = plan(Recipe.make({**GIVEN, "adapter": HYPER}))
    assert unit.tasks == ("a", "b", "c")


def test_a_task_that_it_does_not_name_joins_later() -> None:
    some = {**HYPER, "tasks": ["a", "b"]}
    assert ids(adapter=some) == ["mt_shared/all-tasks/0", "new_task/c/0"]
    units = plan(Recipe.make({**GIVEN, "methods": {"h": some}, "targets": ["c"], "fuse": False, "controls": []}))
    assert [unit.id for unit in units] == ["mt_shared-h/all-tasks/0", "new_task-h/c/0"]
    assert units[1].members == units[:1] and units[0].tasks == ("a", "b")


def test_compare_trains_it_on_all_tasks_at_once() -> None:
    asked = comparison(Recipe.make(GIVEN), ["hyperformer_plus_plus"])
    assert [u.id for u in plan(asked) if u.kind != "full"] == ["mt_shared-hyperformer_plus_plus/all-tasks/0"]


def test_the_only_task_of_a_recipe_has_an_adapter_of_its_own() -> None:
    assert ids(tasks={"a": {"data": "a"}}, adapter=HYPER) == ["adapter/a/0"]


def test_tasks_are_drawn_by_the_papers_temperature_where_the_recipe_does_not_say() -> None:
    made = Recipe.make({**GIVEN, "adapter": HYPER})
    shares = made.mixing_of().probabilities({"a": 1024, "b": 1})
    assert shares["a"] / shares["b"] == pytest.approx(1024 ** (1 / 10))
    said = Recipe.make({**GIVEN, "adapter": HYPER, "mixing": {"kind": "proportional"}})
    assert said.mixing_of().kind == "proportional" == Recipe.make(GIVEN).mixing_of().kind


def test_the_budget_is_that_of_the_method_and_then_of_the_kind() -> None:
    tables = {"new_task": {"epochs": 7}, "epochs": 5}
    made = Recipe.make({**GIVEN, "methods": {"h": {**HYPER, "training": {"epochs": 6}}}, "training": tables})
    assert made.budget("mt_shared", "h").epochs == 6 and made.budget("new_task", "h").epochs == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapter": {**HYPER, "tasks": ["a", "d"]}}, "adapter.tasks: 'd' is no task of this recipe"),
        ({"methods": {"h": {**HYPER, "tasks": ["a"]}}}, "methods.h.tasks names a alone"),
        (
            {"adapter": {**HYPER, "norms": "base"}, "targets": ["a"]},
            "fusion needs one of a single task; say fuse = false",
        ),
        (
            {"adapter": HYPER, "targets": ["a"], "fuse": False, "controls": ["sequential_adapters"]},
            "sequential_adapters needs one of a single task",
        ),
        ({"adapter": HYPER, "together": 2}, "which all tasks train at once already; leave together out"),
        ({"language_adapter": {**HYPER, "tasks": ["a", "b"]}}, "language_adapter: an adapter of several tasks"),
        (
            {
                "methods": {"h": HYPER},
                "languages": {"en": {"text": "t"}},
                "tasks": {"a": {"data": "a", "language": "en"}, "b": {"data": "b"}},
            },
            "methods.h: one adapter serves all tasks, and tasks.a is stacked on or beside another one",
        ),
    ],
)
def test_what_it_cannot_do_is_refused_when_the_recipe_is_read(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(gw.RecipeError) as caught:
        Recipe.make({**GIVEN, **changes})
    assert said in str(caught.value)


# -- what comes out ----------------------------------------------------------------------------------------------------


def unit_of(results: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(unit for unit in results["units"] if unit["kind"] == kind)


def test_a_hypernetwork_learns_all_tasks_with_an_embedding_and_a_head_each(
    folder: Path, recipe: Recipe, tmp_path: Path
) -> None:
    context = RunContext(recipe, folder, tmp_path, read_tasks(recipe, folder))
    unit = Unit("mt_shared", "all-tasks", 0, method="hyper", tasks=("a", "b"))
    adapters, _ = context.set_up(unit)
    routes = MT_SHARED.routes(unit, context)
    assert {task: tuple(route) for task, route in routes.items()} == {t: (f"shared:{t}", f"shared:{t}") for t in "ab"}
    assert adapters.names == ("shared",) and adapters.base_mode == "frozen"
    assert adapters.trainable == ("shared",)
    own, _ = context.set_up(Unit("mt_joint", "all-tasks", 0, method="hyper", tasks=("a", "b")))
    assert own.names == ("shared",) and own.base_mode == "trained"


def test_each_task_has_its_scores_beside_the_single_adapters(results: dict[str, Any]) -> None:
    rows = {(row["task"], row["kind"], row.get("method")): row for row in results["targets"]}
    shared = unit_of(results, "mt_shared")
    assert results["complete"] and shared["method"] == "hyper" and set(shared["tasks"]) == {"a", "b"}
    for task in ("a", "b"):
        assert rows[task, "mt_shared", "hyper"]["mean"] == shared["tasks"][task]["score"]
        assert (task, "adapter", None) in rows
    assert set(rows) == {
        *((task, "adapter", None) for task in "abc"),
        *((task, "mt_shared", "hyper") for task in "ab"),
        ("c", "new_task", "hyper"),
    }
    (table,) = together_tables(results)
    assert [row[0] for row in table.rows] == ["a", "b"] and "hyper" in table.rows[0][2]


def test_a_new_task_learns_its_embedding_and_its_head_and_nothing_else(results: dict[str, Any], folder: Path) -> None:
    head = 32 * 32 + 32 + 2 * 32 + 2
    assert unit_of(results, "new_task")["trained_weights"] == 8 + head
    units = folder / "run" / "units"
    before, after = (
        {k: v for path in (units / unit / "adapter").glob("*.safetensors") for k, v in load_file(path).items()}
        for unit in ("mt_shared-hyper/all-tasks/0", "new_task-hyper/c/0")
    )
    same = [name for name in before.keys() & after.keys() if before[name].shape == after[name].shape]
    moved = [name for name in same if not torch.equal(before[name], after[name])]
    assert len(same) > 20 and len(moved) == 1 and before[moved[0]].shape == (8,)


@pytest.mark.parametrize(("task", "kind"), [("a", "mt_shared"), ("b", "hyper"), ("c", "new_task")])
def test_a_fresh_model_predicts_what_was_scored(folder: Path, results: dict[str, Any], task: str, kind: str) -> None:
    predictor = Predictor(folder / "run", task, kind=kind)
    found = [p.value for p in predictor.predict(Task.read(task, predictor.spec, folder).dev)]
    assert found == read_predictions(predictor.unit.folder(folder / "run"))[task]


def test_the_estimate_counts_what_learns(folder: Path, recipe: Recipe, results: dict[str, Any]) -> None:
    weights = {(row.kind, row.task): row.trained_weights for row in estimate(recipe, root=folder).rows}
    assert weights["mt_shared-hyper", "all-tasks"] == unit_of(results, "mt_shared")["trained_weights"]
    assert weights["new_task-hyper", "c"] == unit_of(results, "new_task")["trained_weights"]


def test_adapter_itself_may_serve_all_tasks_with_the_base(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    given = recipe.model_dump(exclude_unset=True, mode="json")
    made = Recipe.make({**given, "methods": {}, "adapter": HYPER, "controls": ["mt_joint"], "targets": ["a"]})
    found = run(made, tmp_path / "run", root=folder)
    assert set(found["units"][0]["tasks"]) == {"a", "b", "c"}
    predictor = Predictor(tmp_path / "run", "b", kind="mt_joint")
    said = [p.value for p in predictor.predict(Task.read("b", predictor.spec, folder).dev)]
    assert said == read_predictions(predictor.unit.folder(tmp_path / "run"))["b"]


def test_several_of_its_tasks_answer_in_one_pass(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Members of the shared adapter, and a task that joined later, whose norms are copies of the shared ones."""
    given = recipe.model_dump(exclude_unset=True, mode="json")
    made = Recipe.make({**given, "methods": {}, "adapter": {**HYPER, "tasks": ["a", "b"]}, "targets": []})
    found = run(made, tmp_path / "run", root=folder)
    assert [row["task"] for row in found["sources"]] == ["c"] and len(found["together"]) == 1
    rows = Task.read("a", made.tasks["a"], folder).dev
    answers = Several(tmp_path / "run", ["a", "b", "c"]).predict(rows)
    for task in ("a", "b", "c"):
        alone = Predictor(tmp_path / "run", task).predict(rows)
        assert [answer[task].value for answer in answers] == [p.value for p in alone]


def test_its_report_has_a_picture_and_a_line_for_every_unit(folder: Path, results: dict[str, Any]) -> None:
    written = {path.name for path in write_report(folder / "run", plots=True)}
    assert {"tasks-mt_shared-hyper.png", "curves-c.png"} <= written
    page = (folder / "run" / "results.md").read_text()
    assert "shared adapter, all tasks: hyper" in page and "shared adapter, new task: hyper" in page


def test_a_folder_with_one_embedding_for_all_tasks_says_what_to_do(
    folder: Path, results: dict[str, Any], tmp_path: Path
) -> None:
    old = shutil.copytree(folder / "run", tmp_path / "run")
    predictor = Predictor(old, "a", kind="mt_shared", root=folder)
    predictor.adapters.active = None
    predictor.adapters.remove("shared")
    predictor.adapters.add("shared", predictor.recipe.adapter_config("mt_shared", "hyper").with_members(["task"]))
    predictor.adapters.save("shared", predictor.unit.folder(old) / "adapter")
    with pytest.raises(gw.RecipeError, match=r"one embedding for all tasks.*remove the folder"):
        Predictor(old, "a", kind="mt_shared", root=folder)
