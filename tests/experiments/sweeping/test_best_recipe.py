"""A recipe that is written as TOML is the same recipe when it is read, and its paths lead to the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

import graftwork as gw
from graftwork.experiments import Recipe
from graftwork.experiments.sweeping.best_recipe import as_toml
from tests.support.tiny_run import RECIPE, make_tiny

STRANGE = r"""
[tasks."a b".class_weights]
"say \"no\"\n" = 2.5
"ü\u007f" = 1e-7

[methods.lora]
peft = {peft_type = "LORA", r = 4, target_modules = ["query", "value"]}
training = {learning_rate = 1e-3}
"""


def test_what_is_written_is_the_same_recipe(tmp_path: Path) -> None:
    text = RECIPE.replace("[tasks.b]", '[tasks."a b"]').replace(
        'data = "b"', 'train = "b/train.jsonl"\ndata = "glue/x"'
    )
    recipe = Recipe.read(make_tiny(tmp_path, text + STRANGE))
    beside = tmp_path / "again.toml"
    beside.write_text(as_toml(recipe, tmp_path, tmp_path), encoding="utf-8")
    assert Recipe.read(beside) == recipe


def test_paths_lead_to_the_same_place_from_another_folder(tmp_path: Path) -> None:
    text = RECIPE.replace("[tasks.b]", '[tasks."b.c"]').replace(
        'data = "b"', 'data = "glue/x"\ntrain = "b/train.jsonl"'
    )
    recipe = Recipe.read(make_tiny(tmp_path, text))
    other = tmp_path / "runs" / "sweep"
    other.mkdir(parents=True)
    (other / "best.toml").write_text(as_toml(recipe, tmp_path, other))
    found = Recipe.read(other / "best.toml")
    assert found.base.model == "../../base" and found.tasks["a"].data == "../../a"
    assert found.tasks["b.c"].train == "../../b/train.jsonl"
    assert found.tasks["b.c"].data == "glue/x"  # no path that is there: a name


def test_a_value_that_no_file_can_have_is_named(tmp_path: Path) -> None:
    recipe = Recipe.read(make_tiny(tmp_path))
    tables = recipe.model_dump(mode="json", exclude_unset=True)
    tables["training"]["patience"] = None
    with pytest.raises(gw.RecipeError, match=r"training\.patience is None, which no TOML file can have"):
        as_toml(Recipe.make(tables), tmp_path, tmp_path)
