"""LLM-Adapters: the parallel form around single linear modules; the series form is in `test_presets.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import graftwork as gw
from tests.methods.test_lora_kin import seen_at
from tests.support.interpreter import Lab, close
from tests.zoo.models import build

BOTH = ["layer.0.intermediate.dense", "layer.0.output.dense"]


@pytest.mark.parametrize("key", [f"encoder.{name}" for name in BOTH])
def test_parallel_is_its_formula(key: str) -> None:
    """W x + c + U tanh(D x), where the module widens and where it narrows."""
    lab, seen = Lab("bert"), dict[str, Any]()
    lab.add("a", gw.LLMAdaptersParallel(bottleneck_size=5, targets=BOTH))
    module, dense = lab.adapters.modules_of("a")[key], lab.plain.get_submodule(key)
    seen_at(lab.model, key, seen)
    with torch.no_grad():
        lab.run("a")
        close(seen["y"], dense(seen["x"]) + torch.tanh(seen["x"] @ module.down.T) @ module.up.T, 1e-12)


def test_the_default_targets_are_the_feed_forward_of_a_llama() -> None:
    adapters = gw.attach(build("llama").model)
    adapters.add("a", gw.LLMAdaptersParallel(bottleneck_size=4))
    names = {key.rpartition(".")[2] for key in adapters.modules_of("a")}
    assert names == {"up_proj", "down_proj"}
    assert len(adapters.modules_of("a")) == 2 * sum(adapters.sites.stacks.values())


def test_a_model_without_the_targets_says_how_to_name_them() -> None:
    adapters = gw.attach(build("bert").model)
    with pytest.raises(gw.GraftworkError, match=r"LLMAdaptersParallel.*linear modules"):
        adapters.add("a", gw.LLMAdaptersParallel())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bottleneck_size": 0}, "bottleneck_size"),
        ({"activation": "swiglu"}, "swiglu"),
        ({"init": "bert"}, "init"),
        ({"dropout": 1}, "dropout"),
        ({"init_std": -1}, "init_std"),
    ],
)
def test_what_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(gw.ConfigError, match=f"LLMAdaptersParallel.*{said}"):
        gw.LLMAdaptersParallel(**options)
