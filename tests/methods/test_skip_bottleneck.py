"""The bottleneck adapter with a skip: its formula, its start, and that recipes and commands mean it by "bottleneck"."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import graftwork as gw
from graftwork.experiments.comparing.selection import comparison
from graftwork.experiments.planning.recipe import Recipe
from graftwork.methods import Place
from graftwork.report.recommending import Base
from tests.methods.test_union import SITE, Anywhere, reads
from tests.support.interpreter import unsettle
from tests.zoo.models import build


def test_it_is_its_formula_in_float64() -> None:
    """U relu(D y + b_D) + b_U + s ⊙ y."""
    module: Any = gw.SkipBottleneck().build(Place(site=SITE, layers=3))
    assert module.down.shape == (16, SITE.width)
    assert not module.skip.any()
    unsettle([module], 1)
    module = module.double()
    (y,) = reads("output")
    raw = y @ module.down.T + module.down_bias
    expected = (raw * (raw > 0)) @ module.up.T + module.up_bias + module.skip * y
    torch.testing.assert_close(module(y, Anywhere()), expected, rtol=1e-12, atol=1e-12)


def test_by_name_a_bottleneck_has_the_skip_and_in_a_file_what_the_file_says() -> None:
    named = gw.config_from_dict({"method": "bottleneck", "bottleneck_size": 4})
    assert named == gw.SkipBottleneck(bottleneck_size=4)
    plain = gw.Bottleneck(bottleneck_size=4)
    assert gw.config_from_dict(plain.to_dict()) == plain
    assert gw.config_from_dict({"method": "bottleneck", "bottleneck_size": 4, "skip": "none"}) == plain
    assert gw.config_from_dict(gw.SkipBottleneck().to_dict()) == gw.SkipBottleneck()
    parts = gw.config_from_dict({"method": "union", "parts": [{"method": "bottleneck"}, {"method": "parallel"}]})
    assert parts == gw.Union(gw.SkipBottleneck(), gw.Parallel())


@pytest.mark.parametrize("options", [{}, {"skip": "dense"}, {"skip": "none"}])
def test_recipes_and_comparisons_train_it(options: dict[str, Any]) -> None:
    table = {"method": "bottleneck", **options}
    data: dict[str, Any] = {"base": {"model": "m"}, "tasks": {"t": {"kind": "classification", "train": "t.jsonl"}}}
    recipe = Recipe.make({**data, "adapter": table, "methods": {"small": table}}, "here")
    skip = {"none": None}.get(options.get("skip", "diagonal"), options.get("skip", "diagonal"))
    for config in (recipe.adapter_config("adapter"), recipe.adapter_config("method", "small")):
        assert isinstance(config, gw.Bottleneck)
        assert (config.skip, config.bottleneck_size, config.sites) == (skip, 16, ("attention", "feed_forward"))
    compared = comparison(recipe, ["bottleneck"])
    assert compared.adapter_config("method", "bottleneck") == gw.SkipBottleneck()


def test_recommend_counts_it() -> None:
    adapters = gw.attach(build("bert").model)
    adapters.add("x", gw.SkipBottleneck())
    weights = adapters.summary().row("x").weights
    adapters.remove("x")
    assert Base.of(adapters, "bert").counts["bottleneck"].own == weights
