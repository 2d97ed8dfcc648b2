"""Recipes: what may stand in one, and what is said of what may not; the plan that comes of it."""

from pathlib import Path
from typing import Any

import pytest

import graftwork as gw
from graftwork.experiments import Recipe, plan

GOOD: dict[str, Any] = {
    "base": {"model": "base"},
    "tasks": {"a": {"data": "a"}, "b": {"data": "b"}, "c": {"data": "c", "kind": "regression"}},
    "targets": ["a", "b"],
    "seeds": [3, 4],
}


def made(**changes: Any) -> Recipe:
    return Recipe.make({**GOOD, **changes})


def test_every_unit_stands_behind_what_it_needs() -> None:
    units = plan(made())
    ids = [unit.id for unit in units]
    assert len(set(ids)) == len(ids)
    for n, unit in enumerate(units):
        assert all(member.id in ids[:n] for member in unit.members)


def test_the_plan_of_two_targets() -> None:
    units = {unit.id: unit for unit in plan(made())}
    kinds = [unit.kind for unit in units.values()]
    # 3 tasks with the first seed, 2 targets with the second, and for 2 targets with 3 copies one more seed
    assert kinds.count("adapter") == 3 + 2 + 2
    assert all(kinds.count(kind) == 4 for kind in ("fusion", "head", "full", "average", "own", "copies"))
    members = [m.id for m in units["fusion/a/4"].members]
    assert members == ["adapter/a/4", "adapter/b/3", "adapter/c/3"]  # its own adapter has its own seed
    assert [m.id for m in units["copies/a/4"].members] == ["adapter/a/4", "adapter/a/3", "adapter/a/5"]
    assert [m.id for m in units["own/b/3"].members] == ["adapter/b/3"]


def test_without_targets_there_are_adapters_alone() -> None:
    assert [u.id for u in plan(made(targets=[]))] == ["adapter/a/3", "adapter/b/3", "adapter/c/3"]


def test_more_seeds_and_controls_keep_what_was_planned() -> None:
    less = {u.id: u.members for u in plan(made(seeds=[3], controls=["head"]))}
    more = {u.id: u.members for u in plan(made(controls=["head", "own"]))}
    assert less.items() <= more.items()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bsae": {}}, "bsae: this key is not known; did you mean 'base'?"),
        ({"tasks": {"a": {"trian": "a.csv"}}}, "tasks.a.trian: this key is not known; did you mean 'train'?"),
        ({"training": {"lr": 1}}, "training.lr: this key is not known; did you mean 'learning_rate'?"),
        ({"training": {"device": "cuda"}}, "training.device: this key is not known; there is epochs, patience, "),
        ({"training": {"per_device_train_batch_size": 8}}, "not known; did you mean 'batch_size'?"),
        ({"training": {"schedule": "liner"}}, "did you mean 'linear'? (it is 'liner')"),
        (
            {"methods": {"pfeiffer": {"training": {"lr": 1}}}},
            "pfeiffer.training.lr: this key is not known; did you mean 'lea",
        ),
        ({"epochs": 3}, "epochs: this key is not known; it is a key of [training]"),
        ({"max_length": 3}, "max_length: this key is not known; it is a key of [base] and of [tasks.NAME]"),
        ({"base": {"model": "b", "seeds": [1]}}, "seeds stands at the top of the recipe, above every table"),
        ({"training": {"epochs": 10**400}}, "training.epochs"),
        ({"training": {"weight_decay": float("inf")}}, "training.weight_decay"),
        ({"tasks": {"a": {"max_length": 10**30}}}, "tasks.a.max_length"),
        ({"base": {}}, "base.model: this key has to be given"),
        ({"targets": ["x"]}, "the target 'x' is no task; the tasks are a, b, c"),
        ({"adapter": {"method": "pfeifer"}}, "adapter: method 'pfeifer' is not known"),
        ({"adapter": {"reduction": 3}}, "adapter: Pfeiffer has no option 'reduction'; did you mean 'reduction_factor'"),
        ({"adapter": {"method": "houlsby"}}, 'say norms = "base" in [adapter]'),
        ({"fusion": {"temp": 3}}, "fusion: FusionConfig has no option 'temp'"),
        ({"training": {"epochs": 0}}, "training.epochs"),
        ({"training": {"fusion": {"lr": 1}}}, "training.fusion.lr: this key is not known"),
        ({"seeds": [1, 1]}, "1 stands there twice"),
        ({"seeds": []}, "seeds"),
        ({"controls": ["ful"]}, "controls.0"),
        ({"tasks": {"a/b": {}}, "targets": []}, "its name is a folder's"),
        ({"tasks": {"a": {"data": "a"}}, "targets": ["a"]}, "a fusion needs two tasks"),
    ],
)
def test_a_wrong_key_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(gw.RecipeError) as caught:
        made(**changes)
    assert said in str(caught.value)


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(gw.RecipeError, match=r"2 mistake\(s\)"):
        made(base={}, copies=1)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(gw.RecipeError, match="cannot be read"):
        Recipe.read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = ")
    with pytest.raises(gw.RecipeError, match="is no TOML"):
        Recipe.read(tmp_path / "bad.toml")
    for text in ("a = " + "[" * 100_000, f"seeds = [{'1' * 5000}]"):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(gw.RecipeError, match="is no TOML"):
            Recipe.read(tmp_path / "bad.toml")
    for path in ("a\0b", "x" * 300):
        with pytest.raises(gw.RecipeError, match="cannot be read"):
            Recipe.read(path)
    (tmp_path / "latin.toml").write_bytes("# é".encode("latin-1"))
    with pytest.raises(gw.RecipeError, match="UTF-8"):
        Recipe.read(tmp_path / "latin.toml")


def test_each_kind_of_training_has_its_budget() -> None:
    recipe = made(
        training={"learning_rate": 1e-3, "epochs": 7, "fusion": {"epochs": 2}, "full": {"learning_rate": 3e-5}}
    )
    assert recipe.budget("adapter").learning_rate == 1e-3 and recipe.budget("adapter").epochs == 7
    # that of fusions is its own however fast adapters learn, and own and copies are fusions
    assert {recipe.budget(k).learning_rate for k in ("fusion", "own", "copies")} == {5e-5}
    assert {recipe.budget(k).epochs for k in ("fusion", "own", "copies")} == {2}
    assert recipe.budget("full").learning_rate == 3e-5
