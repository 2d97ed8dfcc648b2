"""What --over says is a choice or a range, and every value is one that the recipe takes, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

import graftwork as gw
from graftwork.experiments import Recipe
from graftwork.experiments.sweeping.ranges import Range, read_ranges, variants, with_values
from tests.support.tiny_run import RECIPE, make_tiny


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("4,16,64", {"choices": (4, 16, 64)}),
        ("1e-4, 0.001", {"choices": (1e-4, 0.001)}),
        ("true,false", {"choices": (True, False)}),
        ("linear,cosine", {"choices": ("linear", "cosine")}),
        ("../one,../two", {"choices": ("../one", "../two")}),
        ("2..8", {"low": 2, "high": 8}),
        ("1..64:log", {"low": 1, "high": 64, "log": True}),
        ("1e-4..1e-2:log", {"low": 1e-4, "high": 1e-2, "log": True}),
        ("0.1..0.5", {"low": 0.1, "high": 0.5}),
        ("-1..2.5", {"low": -1, "high": 2.5}),
        ([4, "x", True], {"choices": (4, "x", True)}),
    ],
)
def test_values_and_ranges_are_read(given: str, expected: dict[str, object]) -> None:
    found = Range.read("training.x", given)
    assert found == Range("training.x", **expected)  # type: ignore[arg-type]
    assert [type(one) for one in found.ends] == [type(one) for one in Range("", **expected).ends]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("4", r"over k: '4' is not two different values or more; give values \(4,16,64\)"),
        ("4,4", "is not two different values"),
        ("4,,8", "is not two different values"),
        ("", "is not two different values"),
        ("a..b", "is not two different values"),
        ("8..2", "must go from a lower number to a higher one"),
        ("0..1:log", "and above 0 for :log"),
        ([None, 1], "is not two different values"),
    ],
)
def test_what_is_neither_is_refused_with_the_forms(given: str, said: str) -> None:
    with pytest.raises(gw.errors.ConfigError, match=said):
        read_ranges({"k": given})


def test_a_sweep_over_nothing_is_refused() -> None:
    with pytest.raises(gw.errors.ConfigError, match="nothing to sweep over"):
        read_ranges({})


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    methods = "\n[methods.small]\nmethod = 'pfeiffer'\nreduction_factor = 8\n"
    return Recipe.read(make_tiny(tmp_path_factory.mktemp("tiny"), RECIPE + methods))


def test_a_value_is_put_into_its_table(recipe: Recipe) -> None:
    values = {"training.fusion.learning_rate": 0.5, "methods.small.reduction_factor": 2, "tasks.a.rows": 7, "copies": 4}
    found = with_values(recipe, values)
    assert found.training.fusion.learning_rate == 0.5 and found.methods["small"]["reduction_factor"] == 2
    assert found.tasks["a"].rows == 7 and found.copies == 4 and recipe.tasks["a"].rows is None


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("training.learning_rat", "1e-3,1e-2", "learning_rat: this key is not known; did you mean 'learning_rate'"),
        ("adapter.reduction_facto", "2,4", "no option 'reduction_facto'; did you mean 'reduction_factor'"),
        ("adpter.reduction_factor", "2,4", "adpter: this key is not known; did you mean 'adapter'"),
        ("learning_rate", "2,4", r"it is a key of \[training\]"),
        ("training.epochs", "0..4", "training.epochs: Input should be greater than or equal to 1"),
        ("training.learning_rate", "1e-3..20", "training.learning_rate: .*less than 10"),
        ("training.schedule", "linear,cosin", "training.schedule: .*did you mean 'cosine'"),
        ("adapter.method", "pfeiffer,houlsbi", "method 'houlsbi' is not known; it is one of"),
        ("tasks.c.rows", "2,4", r"no such \[tasks.NAME\]; there is a, b"),
        ("methods.smal.reduction_factor", "2,4", r"no such \[methods.NAME\]; did you mean 'small'"),
        ("copies.x", "2,4", "copies is a value of the recipe, no table"),
    ],
)
def test_what_the_recipe_refuses_is_refused_in_its_words(recipe: Recipe, key: str, values: str, said: str) -> None:
    with pytest.raises(gw.RecipeError, match=said):
        [*variants(recipe, read_ranges({key: values}))]


def test_every_value_and_both_ends_are_tried_with_the_recipe(recipe: Recipe, tmp_path: Path) -> None:
    ranges = read_ranges({"training.epochs": "1..5", "adapter.reduction_factor": "2,4,8"})
    found = [(one.training.epochs, one.adapter["reduction_factor"]) for one in variants(recipe, ranges)]
    assert found == [(1, 2), (5, 2), (1, 2), (1, 4), (1, 8)]
