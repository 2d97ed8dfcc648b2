"""Trainings on several tasks: at once, in a sequence, one from another; what is kept of them, and what is forgotten."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from graftwork.experiments import Recipe, Unit, Watcher, estimate, plan, run
from graftwork.experiments.kinds import UNIT_KINDS
from graftwork.experiments.running.folder import read_predictions
from graftwork.inference import Predictor
from graftwork.report.together_tables import together_tables
from graftwork.tasks import Task
from graftwork.training.joint_trainer import JointBatches
from graftwork.training.sampling import TaskMixing
from tests.experiments.test_kills import go, untimed
from tests.support.tiny_run import RECIPE, make_tiny

KINDS = [
    "scalearn",
    "longer",
    "intermediate",
    "intermediate_full",
    "sequential",
    "sequential_adapters",
    "multitask",
    "mt_shared",
    "mt_joint",
    "fusion_mt",
]
TEXT = f"""
controls = ["full", {", ".join(f'"{kind}"' for kind in KINDS)}]
source = "b"
{RECIPE.replace("epochs = 3", "epochs = 2")}
[methods.houlsby]
bottleneck_size = 8
training = {{learning_rate = 3e-3, epochs = 1}}

[methods.lora]
peft = {{peft_type = "LORA", r = 2, target_modules = ["query", "value"]}}

[mixing]
kind = "temperature"
temperature = 2.0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("of_all")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    return Recipe.read(make_tiny(folder, TEXT))


@pytest.fixture(scope="module")
def results(folder: Path, recipe: Recipe) -> dict[str, Any]:
    return run(recipe, folder / "run", root=folder)


def unit_of(results: dict[str, Any], kind: str, task: str | None = None) -> dict[str, Any]:
    return next(u for u in results["units"] if kind in (u["kind"], u.get("method")) and task in (None, u["task"]))


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_every_kind_is_planned_behind_what_it_goes_on_from(recipe: Recipe) -> None:
    units = plan(recipe)
    ids = [unit.id for unit in units]
    assert all(need.id in ids[:n] for n, unit in enumerate(units) for need in (*unit.members, *unit.stacked_on))
    assert {"trunk/b/0", "mt_joint/all-tasks/0", "method-houlsby/a/0", "method-lora/a/0"} <= set(ids)
    by_kind = {unit.kind: unit for unit in units}
    assert by_kind["sequential"].tasks == ("b", "a")  # the target last
    assert [m.id for m in by_kind["intermediate"].members] == ["adapter/b/0"]


def test_without_fusions_nothing_is_trained_that_nobody_asked_for() -> None:
    given = {"base": {"model": "m"}, "tasks": {"a": {"data": "a"}, "b": {"data": "b"}}, "targets": ["a"], "fuse": False}
    made = Recipe.make({**given, "controls": ["head"], "methods": {"pfeiffer": {}}})
    assert [u.id for u in plan(made)] == ["head/a/0", "method-pfeiffer/a/0"]
    assert [u.id for u in plan(Recipe.make({**given, "controls": ["own"]}))] == ["adapter/a/0", "own/a/0"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"controls": ["intermediate"]}, 'say which: source = "NAME"'),
        ({"controls": ["intermediate"], "source": "x"}, "source: 'x' is no task"),
        ({"order": ["a"]}, "order names a; it must name every task once: a, b"),
        ({"methods": {"x": {}}}, "methods: x: method 'x' is not known"),
        ({"methods": {"a/b": {"method": "pfeiffer"}}}, "its name is a folder's"),
        ({"methods": {"pfeiffer": {"training": {"lr": 1}}}}, "pfeiffer.training.lr: this key is not known"),
        ({"mixing": {"kind": "even"}}, "mixing.kind"),
        ({"scalearn": {"sum": 1}}, "scalearn: ScaLearnConfig has no option 'sum'"),
        ({"tasks": {"all-tasks": {"data": "a"}, "a": {"data": "a"}}}, "what is trained for all tasks is called so"),
        ({"tasks": {"a": {"data": "a"}}, "fuse": False, "controls": ["multitask"]}, "multitask is of several tasks"),
    ],
)
def test_a_wrong_key_is_named(changes: dict[str, Any], said: str) -> None:
    given = {"base": {"model": "m"}, "tasks": {"a": {"data": "a"}, "b": {"data": "b"}}, "targets": ["a"]}
    with pytest.raises(gw.RecipeError) as caught:
        Recipe.make({**given, **changes})
    assert said in str(caught.value)


def test_budgets_follow_what_is_alike_and_have_tables_of_their_own(recipe: Recipe) -> None:
    assert recipe.budget("multitask").learning_rate == recipe.budget("full").learning_rate == 1e-3
    assert recipe.budget("scalearn").learning_rate == 6e-3
    assert recipe.budget("longer").epochs == 4 and recipe.budget("longer").patience is None
    assert recipe.budget("method", "houlsby").learning_rate == 3e-3 and recipe.budget("method", "lora").epochs == 2


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_every_unit_is_done_and_every_target_has_its_rows(results: dict[str, Any], recipe: Recipe) -> None:
    assert results["complete"] and [u["unit"] for u in results["units"]] == [u.id for u in plan(recipe)]
    for unit in results["units"]:
        assert math.isfinite(unit["score"]) and unit["trained_weights"] > 0 and unit["file_bytes"] > 0
    rows = [(row["kind"], row.get("method")) for row in results["targets"]]
    assert {*KINDS, "full", "adapter", "fusion"} <= {kind for kind, _ in rows}
    assert rows.count(("method", "houlsby")) == rows.count(("method", "lora")) == 1


def test_what_is_trained_on_all_tasks_has_a_score_for_each(results: dict[str, Any]) -> None:
    for kind in ("multitask", "mt_shared", "mt_joint", "sequential"):
        unit = unit_of(results, kind)
        assert set(unit["tasks"]) == {"a", "b"}
        row = next(r for r in results["targets"] if r["kind"] == kind)
        assert row["scores"] == [unit["tasks"]["a"]["score"]]
    assert [row["kind"] for row in results["together"]] == ["multitask", "mt_shared", "mt_joint"]
    alone = {r["kind"]: r["mean"] for r in results["targets"]}
    shared = results["together"][1]
    alone_b = unit_of(results, "adapter", "b")["score"]  # a source has been trained alone too
    assert shared["interference"] == {
        "a": shared["scores"]["a"]["mean"] - alone["adapter"],
        "b": shared["scores"]["b"]["mean"] - alone_b,
    }


def test_sources_and_targets_are_shown_against_what_they_are_alone(results: dict[str, Any], recipe: Recipe) -> None:
    (table,) = together_tables(results)
    cells = {(row[0], row[2]): row[3:] for row in table.rows}
    kind = UNIT_KINDS["mt_shared"].title
    for task in ("a", "b"):
        together, alone = unit_of(results, "mt_shared")["tasks"][task], unit_of(results, "adapter", task)
        assert cells[task, kind][:2] == [f"{100 * one['score']:.1f}" for one in (together, alone)]
    assert cells["b", UNIT_KINDS["multitask"].title][1:] == ["", ""]  # the base is trained whole on targets alone


def test_weights_are_counted_where_they_learn(results: dict[str, Any]) -> None:
    full, joint, shared, single = (
        unit_of(results, kind)["trained_weights"] for kind in ("full", "mt_joint", "mt_shared", "adapter")
    )
    head = 32 * 32 + 32 + 2 * 32 + 2
    assert shared == single + head  # one adapter, two heads
    assert joint == full + head + 2 * (single - head)


def test_the_predictions_that_were_scored_are_kept(results: dict[str, Any], folder: Path) -> None:
    for unit in results["units"]:
        kept = read_predictions(folder / "run" / "units" / unit["unit"])
        for name, values in kept.items():
            scored = unit["tasks"][name] if "tasks" in unit else unit
            gold = [
                row["label"] for row in Task.read(name, Recipe.read(folder / "recipe.toml").tasks[name], folder).dev
            ]
            right = sum(value == label for value, label in zip(values, gold, strict=True))
            assert right / len(gold) == pytest.approx(scored["score"])


@pytest.mark.parametrize(
    "kind",
    ["scalearn", "longer", "intermediate", "mt_shared", "mt_joint", "fusion_mt", "houlsby", "lora"],
)
def test_a_fresh_model_predicts_what_was_scored(folder: Path, results: dict[str, Any], kind: str) -> None:
    predictor = Predictor(folder / "run", "a", kind=kind)
    task = Task.read("a", predictor.spec, folder)
    found = [p.value for p in predictor.predict([{"text": row["text"]} for row in task.dev])]
    assert found == read_predictions(folder / "run" / "units" / unit_of(results, kind)["unit"])["a"]


def test_what_is_not_kept_is_said(folder: Path, results: dict[str, Any]) -> None:
    with pytest.raises(gw.RecipeError, match="full fine-tuning, all tasks is measured and not kept"):
        Predictor(folder / "run", "a", kind="multitask")
    assert not list((folder / "run").rglob("checkpoints")) and not list((folder / "run").rglob("steps"))


def test_an_adapter_of_a_trained_base_does_not_go_on_the_original(folder: Path, results: dict[str, Any]) -> None:
    predictor = Predictor(folder / "run", "a", kind="adapter")
    at = folder / "run" / "units" / "mt_joint" / "all-tasks" / "0"
    with pytest.raises(gw.CheckpointError, match="load_base"):
        predictor.adapters.load(at / "adapters" / "a", "other")
    predictor.adapters.load_base(at / "base")
    assert predictor.adapters.load(at / "adapters" / "a", "other") == "other"


# -- forgetting --------------------------------------------------------------------------------------------------------


def test_with_adapters_nothing_is_forgotten_to_the_bit(folder: Path, results: dict[str, Any]) -> None:
    sequence = next(s for s in results["sequences"] if s["kind"] == "sequential_adapters")
    first, both = sequence["scores"]
    assert both[0] == first[0] and sequence["average_forgetting"] == sequence["backward_transfer"] == 0.0
    single = {u["task"]: u["score"] for u in results["units"] if u["kind"] == "adapter" and u["seed"] == 0}
    assert dict(zip(sequence["order"], both, strict=True)) == single


def test_the_logits_of_a_task_are_the_same_bits_when_others_are_learnt(folder: Path, results: dict[str, Any]) -> None:
    predictor = Predictor(folder / "run", "b", kind="adapter")
    inputs = predictor.processor(["the film was good", "awful plot"], return_tensors="pt", padding=True)

    def logits() -> torch.Tensor:
        with torch.no_grad(), predictor.adapters.using("b"):
            return predictor.adapters.model(**inputs).logits

    before = logits()
    predictor.adapters.load(folder / "run" / "units" / "adapter" / "a" / "0" / "adapter", "a")
    predictor.adapters.train_only("a")
    optimiser = torch.optim.AdamW([p for p in predictor.adapters.model.parameters() if p.requires_grad], lr=0.1)
    predictor.adapters.model(**inputs, labels=torch.tensor([0, 1])).loss.backward()
    optimiser.step()
    predictor.adapters.model.eval()
    assert torch.equal(logits(), before)


def test_a_sequence_of_full_fine_tuning_scores_every_earlier_task(results: dict[str, Any]) -> None:
    sequence = next(s for s in results["sequences"] if s["kind"] == "sequential")
    assert sequence["order"] == ["b", "a"] and [len(row) for row in sequence["scores"]] == [1, 2]
    first, last = sequence["scores"]
    assert sequence["average_forgetting"] == first[0] - last[0]
    trunk = unit_of(results, "trunk")  # the first step is that training
    assert first[0] == trunk["score"]
    full = unit_of(results, "full")
    assert sequence["forward_transfer"] == last[1] - full["score"]


# -- batches -----------------------------------------------------------------------------------------------------------


def batches_of(batches: JointBatches, epoch: int) -> list[list[tuple[str, int]]]:
    batches.epoch = lambda: float(epoch)
    return list(batches)


@pytest.mark.parametrize("mixed", [False, True])
def test_batches_depend_on_seed_and_epoch_alone(mixed: bool) -> None:
    def made(seed: int = 0) -> JointBatches:
        return JointBatches({"a": 90, "b": 30}, 8, mixing=TaskMixing(), mixed=mixed, epochs=3, seed=seed)

    whole = made()
    epochs = [batches_of(whole, n) for n in range(3)]
    assert epochs[1] == batches_of(made(), 1) and epochs[2] == batches_of(whole, 2)
    assert epochs[0] != epochs[1] and epochs[0] != batches_of(made(1), 0)
    assert all(len(epoch) == len(whole) for epoch in epochs)
    kinds = [len({task for task, _ in batch}) for batch in epochs[0]]
    assert (max(kinds) == 2) is mixed
    rows = [row for epoch in epochs for batch in epoch for row in batch]
    share = sum(task == "a" for task, _ in rows) / len(rows)
    assert 0.6 < share < 0.9  # three rows in four


def test_a_mixed_batch_is_the_mean_over_its_rows(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    """In float64: the gradient of one mixed step is the sum of the tasks' gradients by their shares."""
    from graftwork.experiments.kinds.joint import MT_SHARED
    from graftwork.experiments.running.arguments import make_joint_trainer
    from graftwork.experiments.running.run import read_tasks
    from graftwork.experiments.running.run_context import RunContext

    mixed = Recipe.make({**recipe.model_dump(exclude_unset=True), "mixing": {"batches": "mixed"}})
    context = RunContext(mixed, folder, tmp_path, read_tasks(mixed, folder))
    unit = Unit("mt_shared", "all-tasks", 0, tasks=("a", "b"))
    adapters, _ = context.set_up(unit)
    trainer = make_joint_trainer(unit, context, adapters, MT_SHARED.routes(unit, context))
    model: Any = adapters.model.double().eval()
    batch = next(iter(trainer.get_train_dataloader()))
    assert {task for task, _, _ in batch["parts"]} == {"a", "b"}
    trainer.compute_loss(model, batch).backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    rows = sum(len(part["labels"]) for _, _, part in batch["parts"])
    for task, _, part in batch["parts"]:
        with adapters.using("shared", head=task):
            logits = model(**{k: v for k, v in part.items() if k != "labels"}).logits
        loss = torch.nn.functional.cross_entropy(logits, part["labels"], reduction="sum") / rows
        loss.backward()
    for name, p in model.named_parameters():
        if p.grad is not None:
            off = (found[name] - p.grad).abs().max() / p.grad.abs().max()
            assert off < 1e-5, name  # the loss itself is a float32


# -- interrupted -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_kills_change_no_result(folder: Path, recipe: Recipe, results: dict[str, Any], tmp_path: Path) -> None:
    """Killed in trainings of all tasks and in the middle of a sequence: the same results and the same weights."""
    short = {**recipe.model_dump(exclude_unset=True, mode="json"), "fuse": False, "methods": {}}
    made = Recipe.make({**short, "controls": ["sequential", "mt_joint"]})
    (folder / "short.json").write_text(json.dumps(made.model_dump(exclude_unset=True, mode="json")))
    out = tmp_path / "killed"
    for steps in (4, 5, 9, 11):
        assert go(folder / "short.json", out, "step", steps)[0] == -9
    found = run(made, out, root=folder)
    for unit in found["units"]:
        expected = next(u for u in results["units"] if u["unit"] == unit["unit"])
        assert untimed(unit) == untimed(expected)
    for file in (out / "units" / "mt_joint").rglob("*.safetensors"):
        other = folder / "run" / file.relative_to(out)
        assert file.read_bytes() == other.read_bytes(), file


def test_the_estimate_knows_every_kind(folder: Path, recipe: Recipe, results: dict[str, Any]) -> None:
    rows = estimate(recipe, root=folder).rows
    assert {row.kind for row in rows} == {unit.label for unit in plan(recipe)}
    weights = {(u["kind"] if "method" not in u else f"method-{u['method']}", u["task"]): u for u in results["units"]}
    for row in rows:
        unit = weights[row.kind, row.task]
        if row.kind not in ("sequential_adapters", "sequential"):
            assert row.trained_weights == unit["trained_weights"], row.kind
        assert row.steps >= unit["steps"]


def test_whoever_looks_on_is_told_of_every_kind(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    told: list[str] = []

    class Listening(Watcher):
        def begun(self, unit: Unit, resumed: bool) -> None:
            told.append(unit.id)

        def ended(self, unit: Unit, result: Any) -> None:
            told.append(f"{unit.id} ended")

    small = Recipe.make(
        {**recipe.model_dump(exclude_unset=True), "fuse": False, "controls": ["mt_shared"], "methods": {}}
    )
    run(small, tmp_path / "run", root=folder, watcher=Listening())
    assert told == ["mt_shared/all-tasks/0", "mt_shared/all-tasks/0 ended"]
