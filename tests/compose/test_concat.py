"""Concat: its formula, where it starts, knowledge adapters under it, files, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import graftwork as gw
from tests.support.attached import lively
from tests.support.interpreter import Lab, close
from tests.zoo.models import build

BOTH = gw.Concat("a", "b", name="both")
CONFIG = gw.ConcatConfig(dtype="float64")


def lab(config: gw.AdapterConfig, **others: gw.AdapterConfig) -> Lab:
    here = Lab("bert")
    here.add("a", config)
    here.add("b", others.get("b", config))
    here.adapters.add_fusion(BOTH, CONFIG)
    return here


@pytest.mark.parametrize("config", [gw.Pfeiffer(bottleneck_size=4), gw.PAL(size=6, heads=2)])
def test_it_starts_as_the_average(config: gw.AdapterConfig) -> None:
    here = lab(config)
    with torch.no_grad():
        close(here.run(BOTH), here.run(gw.Average("a", "b")), 1e-12)
        close(here.run(gw.Split(BOTH, None, splits=[7, 0])), here.run(BOTH))


@pytest.mark.parametrize("children", [("a", "b"), ("b", "a"), ("b",), (None, "a")])
def test_it_equals_its_formula(children: tuple[str | None, ...]) -> None:
    """At the end of the last layer, where everything that it reads can be seen from outside."""
    here = Lab("bert")
    side = {"size": 6, "heads": 2, "inner": 8, "combine": "add", "dropout": 0.0}
    for name in "ab":
        here.add(name, gw.KAdapter(**side, layers=(0,)))
    pool = gw.Concat("a", "b", None, name="both")
    here.adapters.add_fusion(pool, CONFIG)
    here.unsettle("both")
    ((key, module),) = here.adapters.modules_of("both").items()
    assert key == "encoder.layer.1.layer"
    weights = dict(module.named_parameters())
    with torch.no_grad():
        last = here.run(None)
        results = {name: here.run(name) if name in children else last for name in ("a", "b")}
        stacked = torch.cat([results["a"], results["b"], last], dim=-1)
        eye = torch.eye(last.shape[-1], dtype=last.dtype) / 3
        expected = stacked @ (torch.cat([eye] * 3, dim=1) + weights["delta"]).T + weights["bias"]
        close(here.run(gw.Concat(*children, name="both")), expected)


def test_it_learns_and_its_children_do_not(tmp_path: Path) -> None:
    here = lab(gw.Pfeiffer(bottleneck_size=4))
    here.adapters.train_only(BOTH)
    learning = {n for n, p in here.model.named_parameters() if p.requires_grad}
    here.adapters.train_only("both", active=gw.Stack(BOTH))
    assert {n for n, p in here.model.named_parameters() if p.requires_grad} >= {n for n in learning if "both" in n}
    here.model(**here.inputs).last_hidden_state.square().mean().backward()
    for module in here.adapters.modules_of("both").values():
        assert all(p.grad is not None and p.grad.any() for p in module.parameters())
    for name in "ab":
        assert all(p.grad is None for m in here.adapters.modules_of(name).values() for p in m.parameters())
    here.unsettle("both")
    with torch.no_grad():
        expected = here.run(BOTH)
        here.adapters.save(BOTH, tmp_path / "both", members=True)
        there = Lab("bert")
        assert there.adapters.load(tmp_path / "both") == BOTH
        close(there.run(BOTH), expected, 1e-14)


def test_weights_belong_to_children() -> None:
    here = lab(gw.Pfeiffer(bottleneck_size=4))
    here.add("c", gw.Pfeiffer(bottleneck_size=4))
    with pytest.raises(gw.CompositionError, match=r"'both' has no weights for 'c'; its pool is 'a', 'b'"):
        here.adapters.active = gw.Concat("a", "c", name="both")


def test_invertible_adapters_are_refused() -> None:
    adapters = gw.attach(build("bert").model)
    for name in "ab":
        adapters.add(name, gw.InvertiblePfeiffer())
    with pytest.raises(gw.CompositionError, match="cannot be weighed"):
        adapters.add_fusion(BOTH)


def test_in_bfloat16() -> None:
    zoo = build("bert", torch.bfloat16)
    adapters = gw.attach(zoo.model)
    for name in "ab":
        adapters.add(name, gw.Pfeiffer())
    adapters.add_fusion(BOTH)
    lively(adapters, "both", size=0.01)
    with torch.no_grad(), adapters.using(BOTH):
        assert zoo.model(**zoo.inputs).last_hidden_state.dtype is torch.bfloat16
