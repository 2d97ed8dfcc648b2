"""Methods compared: what is trained for which names, what a folder keeps, how differences and costs come about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import graftwork.experiments.costing.costs
from graftwork.errors import RecipeError, TrainingError
from graftwork.experiments import Recipe, Watcher, compare, comparison, plan, read_comparison
from graftwork.experiments.comparing.selection import usual
from graftwork.experiments.costing.costs import MeasurementSpec, _in_a_process, measure_costs, peaks
from graftwork.experiments.running.run import read_tasks
from graftwork.report import comparison_tables, gather
from tests.support.tiny_run import RECIPE, make_tiny

SHORT = RECIPE.replace('targets = ["a"]\n', "seeds = [0, 1]\n").replace("epochs = 3", "epochs = 1")
TABLES = "\n[methods.small]\nmethod = 'pfeiffer'\nreduction_factor = 8\n\n[methods.houlsby]\nreduction_factor = 8\n"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"), SHORT)


@pytest.fixture(scope="module")
def run(recipe: Path) -> Path:
    """A comparison of two lines on two tasks, with two seeds."""
    folder = recipe.parent / "compared"
    compare(Recipe.read(recipe), ["pfeiffer"], run=folder, root=recipe.parent, costs=False)
    return folder


def trained(recipe: Recipe) -> set[tuple[str, str]]:
    return {(unit.label, unit.task) for unit in plan(recipe)}


def test_exactly_what_is_named_is_trained_with_full_fine_tuning_on_every_task(recipe: Path) -> None:
    asked = comparison(Recipe.read(recipe), ["head", "houlsby"])
    assert trained(asked) == {(kind, task) for kind in ("full", "head", "method-houlsby") for task in "ab"}
    assert asked.seeds == (0, 1) and asked.training == Recipe.read(recipe).training
    assert asked.adapter_config("method", "houlsby").method == "houlsby"


def test_a_fusion_brings_the_adapters_that_it_weighs(recipe: Path) -> None:
    asked = comparison(Recipe.read(recipe), ["fusion"])
    assert trained(asked) == {(kind, task) for kind in ("full", "adapter", "fusion") for task in "ab"}


def test_a_table_of_the_recipe_comes_before_a_method_of_that_name(tmp_path: Path) -> None:
    read = Recipe.read(make_tiny(tmp_path, SHORT + TABLES))
    asked = comparison(read, ["houlsby", "compacter"])
    assert asked.methods == {"houlsby": {"reduction_factor": 8}, "compacter": {"method": "compacter"}}
    assert usual(read) == ["head", "small", "houlsby"]
    with_controls = Recipe.make({**read.model_dump(mode="json", exclude_unset=True), "controls": ["fusion"]})
    assert usual(with_controls) == ["fusion", "small", "houlsby"]


def test_targets_of_the_recipe_stay_the_targets(tmp_path: Path) -> None:
    asked = comparison(Recipe.read(make_tiny(tmp_path)), ["head"])
    assert asked.targets == ("a",) and trained(asked) == {("full", "a"), ("head", "a")}


def test_without_tables_the_usual_ones_are_compared(recipe: Path) -> None:
    assert usual(Recipe.read(recipe)) == ["head", "pfeiffer", "houlsby", "compacter", "lora"]


def test_a_method_of_peft() -> None:
    pytest.importorskip("peft")
    raw = {"base": {"model": "base"}, "tasks": {"t": {"data": "t"}}}
    asked = comparison(Recipe.make(raw), ["peft:ia3"])
    assert asked.adapter_config("method", "peft-ia3").to_dict()["peft"]["peft_type"] == "IA3"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["houlsbi"],
            r"'houlsbi' is not known to compare; did you mean 'houlsby'\? There is kinds of training: zero_shot, few_shot, head",
        ),
        (["a thing"], r"'a thing' is not known to compare; There is .*methods: .*compacter"),
        ([" "], "no method is named; There is"),
        (["peft:none"], "peft-none: "),
        (["intermediate"], 'say which: source = "NAME"'),
    ],
)
def test_a_name_that_cannot_be_compared_is_refused_with_a_way_out(names: list[str], message: str, recipe: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        comparison(Recipe.read(recipe), names)


def test_a_recipe_without_tasks_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"no \[tasks.NAME\]"):
        comparison(Recipe.make({"base": {"model": "base"}, "languages": {"en": {"text": "en.txt"}}}), ["head"])


def test_differences_are_those_of_the_scores(run: Path) -> None:
    found = read_comparison(run)
    assert found is not None and [target["task"] for target in found["targets"]] == ["a", "b"]
    for target in found["targets"]:
        rows = {row["line"]: row for row in target["rows"]}
        assert list(rows) == ["full", "method-pfeiffer"] and target["rows_scored"] == 20 and target["draws"] == 10_000
        against = rows["method-pfeiffer"]["against_full"]
        assert against["value"] == pytest.approx(rows["method-pfeiffer"]["mean"] - rows["full"]["mean"])
        assert against["low"] <= against["value"] <= against["high"] and 0 < against["p"] <= 1
        assert rows["full"]["against_full"] is None and rows["full"]["best_other"] == "method-pfeiffer"
        assert rows["full"]["against_best"]["value"] == pytest.approx(-against["value"])
        assert (
            rows["method-pfeiffer"]["share"]
            == rows["method-pfeiffer"]["trained_weights"] / rows["full"]["trained_weights"]
        )
    mean = {row["line"]: row for row in found["mean"]}["method-pfeiffer"]
    each = [next(row for row in target["rows"] if row["line"] == "method-pfeiffer") for target in found["targets"]]
    assert mean["mean"] == pytest.approx(sum(row["mean"] for row in each) / 2) == pytest.approx(sum(mean["scores"]) / 2)
    assert mean["against_full"]["value"] == pytest.approx(sum(row["against_full"]["value"] for row in each) / 2)


def test_other_names_are_added_to_what_the_folder_has(run: Path, recipe: Path) -> None:
    begun: list[str] = []

    class Seen(Watcher):
        def begun(self, unit: Any, resumed: bool) -> None:
            begun.append(unit.id)

    found = compare(Recipe.read(recipe), ["mt_shared"], run=run, root=recipe.parent, watcher=Seen(), costs=False)
    assert begun == ["mt_shared/all-tasks/0", "mt_shared/all-tasks/1"]  # the others are done, and stay
    rows = {row["line"]: row for row in found["targets"][0]["rows"]}
    assert list(rows) == ["full", "method-pfeiffer", "mt_shared"]
    assert rows["mt_shared"]["weights_a_task"] == pytest.approx(rows["mt_shared"]["trained_weights"] / 2, abs=1)
    assert rows["mt_shared"]["against_full"]["value"] == pytest.approx(rows["mt_shared"]["mean"] - rows["full"]["mean"])
    assert "a task" in comparison_tables(gather(run).comparison)[0].columns


def test_a_method_whose_table_changed_is_refused(run: Path, recipe: Path) -> None:
    read = Recipe.read(recipe)
    raw = {**read.model_dump(mode="json", exclude_unset=True), "methods": {"pfeiffer": {"reduction_factor": 2}}}
    with pytest.raises(RecipeError, match=r"methods\.pfeiffer.*methods may grow"):
        compare(Recipe.make(raw), ["pfeiffer"], run=run, root=recipe.parent, costs=False)


def test_predictions_that_are_not_those_that_were_scored_give_no_interval(run: Path, recipe: Path) -> None:
    """As a run may have them that does not say what it was made with; what one says that does is held against it."""
    path = run / "units" / "method-pfeiffer" / "a" / "0" / "predictions.json"
    other = run / "units" / "method-pfeiffer" / "a" / "1" / "predictions.json"
    kept, before = path.read_text(), other.read_text()
    told = {made: made.read_text() for made in run.rglob("made_with.json")}
    try:
        path.write_text(json.dumps({"a": ["pos"] * 7}))
        with pytest.raises(RecipeError, match=r"method-pfeiffer/a/0: its predictions\.json has changed"):
            compare(Recipe.read(recipe), ["pfeiffer"], run=run, root=recipe.parent, costs=False)
        for made in told:
            made.unlink()
        spoilt = json.loads(before)
        spoilt["a"][0] = {"pos": "neg", "neg": "pos"}[spoilt["a"][0]]
        other.write_text(json.dumps(spoilt))
        with pytest.warns(UserWarning, match="do not say what they were made with"):
            found = compare(Recipe.read(recipe), ["pfeiffer"], run=run, root=recipe.parent, costs=False)
        rows = {row["line"]: row for row in found["targets"][0]["rows"]}
        assert rows["method-pfeiffer"]["against_full"] is None
        assert any("do not tell" in note for note in comparison_tables(found)[2].notes)
    finally:
        path.write_text(kept)
        other.write_text(before)
        for made, text in told.items():
            made.write_text(text)


def test_costs_are_ratios_and_measured_once(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def here(work: Any, spec: MeasurementSpec, label: str) -> dict[str, int]:
        measured.append(label)
        return {"train_bytes": 200 + len(measured), "inference_bytes": 100}

    monkeypatch.setattr(graftwork.experiments.costing.costs, "_in_a_process", here)
    asked = comparison(Recipe.read(recipe), ["head", "mt_shared", "fusion"])
    tasks = read_tasks(asked, recipe.parent)
    found = measure_costs(asked, tmp_path, tasks, recipe.parent)
    assert measured == ["full", "head", "adapter", "mt_shared", "fusion"]
    batch = found["batch"]
    assert (batch["task"], batch["rows"]) == ("a", 16) and 4 <= batch["length"] <= 11
    full, head = found["lines"]["full"], found["lines"]["head"]
    assert (full["train_ratio"], full["inference_ratio"], full["train_memory_ratio"]) == (1.0, 1.0, 1.0)
    assert head["train_memory_ratio"] == 202 / 201 and head["inference_memory_ratio"] == 1.0
    assert head["train_seconds"] > 0 and 0 < head["train_ratio"] < 1.5
    again = measure_costs(asked, tmp_path, tasks, recipe.parent)
    assert again == found and len(measured) == 5
    more = comparison(Recipe.read(recipe), ["head", "pfeiffer"])
    measure_costs(more, tmp_path, tasks, recipe.parent)
    assert measured[5:] == ["method-pfeiffer"]
    longer = Recipe.make({**asked.model_dump(mode="json", exclude_unset=True), "training": {"batch_size": 4}})
    measure_costs(longer, tmp_path, tasks, recipe.parent)
    assert measured[6:] == measured[:5]  # another batch is another measurement


def test_the_memory_of_a_process_of_its_own(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full fine-tuning keeps gradients and two moments of all weights; the head alone does not."""
    sent: dict[str, MeasurementSpec] = {}

    def keep(work: Any, spec: MeasurementSpec, label: str) -> dict[str, int]:
        sent[label] = spec
        return {"train_bytes": 1, "inference_bytes": 1}

    monkeypatch.setattr(graftwork.experiments.costing.costs, "_in_a_process", keep)
    asked = comparison(Recipe.read(recipe), ["head"])
    measure_costs(asked, tmp_path, read_tasks(asked, recipe.parent), recipe.parent)
    found = _in_a_process(peaks, sent["full"], "full")
    assert set(found) == {"train_bytes", "inference_bytes"}
    assert 100_000 < found["inference_bytes"] <= found["train_bytes"] < 2_000_000_000


def _ended(asked: object) -> dict[str, int]:
    import os

    os._exit(1)


def test_a_process_that_ends_is_told(recipe: Path) -> None:
    with pytest.raises(TrainingError, match=r"houlsby: the process that measures its memory ended.*--no-costs"):
        _in_a_process(_ended, None, "houlsby")  # type: ignore[arg-type]
