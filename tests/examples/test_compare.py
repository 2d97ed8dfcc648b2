"""The recipe of the comparison, whose data is not in the repository: it can be read, and compares what it says."""

from collections import Counter
from pathlib import Path

import pytest

from graftwork.experiments import Recipe, comparison, plan

RECIPE = Path(__file__).parents[2] / "examples" / "compare" / "recipe.toml"


def test_the_recipe_compares_five_lines_with_full_fine_tuning_on_three_tasks() -> None:
    pytest.importorskip("peft")
    units = plan(comparison(Recipe.read(RECIPE)))
    counts = Counter((unit.label, unit.task) for unit in units)
    lines = ["full", "head", *(f"method-{name}" for name in "pfeiffer houlsby compacter lora".split())]
    assert counts == {(line, task): 1 for line in lines for task in ("rte", "mrpc", "tweet_emotion")}
