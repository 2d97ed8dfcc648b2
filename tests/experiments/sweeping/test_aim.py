"""A sweep trains what it optimises and what that depends on, and counts its scores on the dev rows alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import graftwork as gw
from graftwork.experiments import Recipe, plan
from graftwork.experiments.sweeping.aim import Aim
from graftwork.experiments.sweeping.ranges import Range
from tests.support.tiny_run import RECIPE, make_tiny

METHODS = "\n[methods.small]\nmethod = 'pfeiffer'\nreduction_factor = 8\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny")).parent


def aim(folder: Path, key: str, kind: str | None = None, text: str = RECIPE + METHODS) -> Aim:
    (folder / "recipe.toml").write_text(text)
    return Aim.of(Recipe.read(folder / "recipe.toml"), [Range(key, (1, 2))], kind)


@pytest.mark.parametrize(
    ("key", "kind", "trained", "counted"),
    [
        ("training.epochs", None, ["adapter/a/0", "adapter/b/0", "fusion/a/0"], ["fusion/a/0"]),
        ("training.epochs", "adapter", ["adapter/a/0"], ["adapter/a/0"]),
        ("training.epochs", "head", ["head/a/0"], ["head/a/0"]),
        ("methods.small.reduction_factor", None, ["method-small/a/0"], ["method-small/a/0"]),
        ("training.epochs", "small", ["method-small/a/0"], ["method-small/a/0"]),
        ("training.epochs", "mt_shared", ["mt_shared/all-tasks/0"], ["mt_shared/all-tasks/0"]),
    ],
)
def test_only_what_is_optimised_is_trained_and_counts(
    folder: Path, key: str, kind: str | None, trained: list[str], counted: list[str]
) -> None:
    found = aim(folder, key, kind)
    units = plan(found.recipe)
    assert [unit.id for unit in units] == trained
    assert [unit.id for unit in units if found.counts(unit)] == counted


def test_without_targets_the_adapters_of_all_tasks_count(folder: Path) -> None:
    found = aim(folder, "training.epochs", None, RECIPE.replace('["a"]', "[]"))
    assert [unit.id for unit in plan(found.recipe) if found.counts(unit)] == ["adapter/a/0", "adapter/b/0"]


def test_one_that_is_not_known_is_named(folder: Path) -> None:
    with pytest.raises(gw.RecipeError, match="'fuson' is nothing to optimise; did you mean 'fusion'"):
        aim(folder, "training.epochs", "fuson")


def test_the_score_is_that_on_the_dev_rows_whatever_the_test_rows_say(folder: Path) -> None:
    found = aim(folder, "training.epochs")
    one = {"metric": "f1", "score": 0.9, "scores": {"dev": {"f1": 0.25, "accuracy": 0.8}, "test": {"f1": 0.9}}}
    other = {"metric": "f1", "score": 0.1, "scores": {"dev": {"f1": 0.75}, "test": {"f1": 0.1}}}
    assert found.score(one) == 0.25
    assert found.score({"metric": "mean of f1", "score": 0.5, "tasks": {"a": one, "b": other}}) == 0.25  # the target's
