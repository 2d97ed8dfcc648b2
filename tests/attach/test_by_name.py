"""Adapters by the name of their method, and what a handle says of what it carries."""

from __future__ import annotations

import pytest
import torch

import graftwork as gw
from tests.support.attached import attached
from tests.zoo.models import build


@pytest.fixture
def adapters() -> gw.Adapters:
    return attached(build("bert"))


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("pfeiffer", gw.Pfeiffer()),
        ("pfeiffer[]", gw.Pfeiffer()),
        (" pfeiffer[reduction_factor=8] ", gw.Pfeiffer(reduction_factor=8)),
        ("houlsby[norms='base', activation=\"relu\"]", gw.Houlsby(norms="base", activation="relu")),
        ("pfeiffer[leave_out=[0]]", gw.Pfeiffer(leave_out=(0,))),
        ("bottleneck", gw.SkipBottleneck()),
    ],
)
def test_a_method_by_its_name(adapters: gw.Adapters, text: str, config: gw.AdapterConfig) -> None:
    adapters.add("x", text)
    assert adapters.config("x") == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pfeifer", "no method is called 'pfeifer'; did you mean 'pfeiffer'?"),
        ("", "no method is called ''"),
        ("pfeiffer[reduction_factor=8", "the closing ] is missing"),
        (f"pfeiffer[reduction_factor={'[' * 5000}]", "write options as in"),
        ("pfeiffer[reduction_factor]", "write options as in"),
        ("pfeiffer[reductionfactor=8]", "has no option 'reductionfactor'; did you mean 'reduction_factor'?"),
        ("pfeiffer[reduction_factor=-8]", "reduction_factor has the value -8"),
    ],
)
def test_a_name_that_says_no_method(adapters: gw.Adapters, text: str, said: str) -> None:
    with pytest.raises(gw.ConfigError) as caught:
        adapters.add("x", text)
    assert said in str(caught.value) and adapters.names == ()


def test_parallel_is_a_method_and_no_block() -> None:
    with pytest.raises(gw.ConfigError, match=r"use gw\.Replicate\('a', 'b'\)"):
        gw.Parallel("a", "b")  # type: ignore[call-arg]


def test_fusing_houlsby_adapters_shows_the_way_out(adapters: gw.Adapters) -> None:
    adapters.add("a", "houlsby")
    adapters.add("b", "houlsby")
    with pytest.raises(gw.CompositionError, match=r"gw\.Houlsby\(norms=\"base\"\)"):
        adapters.add_fusion(gw.Fuse("a", "b", name="ab"))


def test_what_is_printed(adapters: gw.Adapters) -> None:
    adapters.add("a", "pfeiffer")
    adapters.add("b", "pfeiffer")
    assert str(adapters).endswith("active: None\ntrained: nothing")
    adapters.train_only("a")
    table = str(adapters).split("\n")
    a, b = (next(line for line in table if line.startswith(name)) for name in "ab")
    layers = len(list(adapters.sites)) // 3
    assert a.split()[-4:] == ["feed_forward", f"×{layers}", "active,", "trainable"]
    assert b.split()[-2:] == ["feed_forward", f"×{layers}"]
    assert table[-2:] == ["active: 'a'", "trained: a"]
    adapters.train_only(None, base="norms")
    assert str(adapters).endswith("trained: the base (norms)")


def test_an_optimizer_takes_what_is_trained(adapters: gw.Adapters) -> None:
    adapters.add("a", "pfeiffer")
    assert adapters.trainable_parameters() == []
    adapters.train_only("a")
    weights = [p for module in adapters.modules_of("a").values() for p in module.parameters()]
    assert {*map(id, weights)} <= {*map(id, adapters.trainable_parameters())}
    torch.optim.AdamW(adapters.trainable_parameters())
