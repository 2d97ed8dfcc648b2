"""The recipe over real tasks, whose data is not in the repository: it can be read, and plans what it says."""

from collections import Counter
from pathlib import Path

from graftwork.experiments import Recipe, plan

RECIPE = Path(__file__).parents[2] / "examples" / "glue" / "recipe.toml"


def test_the_recipe_plans_every_control_for_three_seeds() -> None:
    counts = Counter((unit.kind, unit.task) for unit in plan(Recipe.read(RECIPE)))
    for target in ("rte", "mrpc"):
        assert all(counts[kind, target] == 3 for kind in "adapter fusion head full average own copies".split())
    assert all(counts["adapter", source] == 1 for source in ("mnli", "qqp", "sst2", "scitail"))
    assert sum(counts.values()) == 46
