"""One adapter in the place of a composition with constant weights: the same function."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import graftwork as gw
from tests.support.interpreter import Lab, close

TARGETS: dict[str, Any] = {"targets": ("query", "output.dense")}


@pytest.fixture
def lab() -> Lab:
    made = Lab("bert")
    for n in range(3):
        made.add(f"lora{n}", gw.LoRA(rank=2 + n, alpha=3 + n, **TARGETS))
        made.add(f"p{n}", gw.Pfeiffer(bottleneck_size=2 + n, scale=("channel", "learned", 2.0)[n]))
        made.add(f"par{n}", gw.Parallel(bottleneck_size=2, leave_out=(0,)))
    made.add("elsewhere", gw.LoRA(rank=2, targets=["key", "output.dense"]))
    made.add("gelu", gw.Pfeiffer(activation="gelu"))
    made.add("gated", gw.Pfeiffer(gate=True))
    made.add("own", gw.Houlsby())
    return made


COMPOSITIONS = [
    "lora0",
    "p1",
    gw.Average("lora0", "lora1", "elsewhere", weights=[0.5, -0.3, 2.0], normalize=False),
    gw.Stack("lora0", gw.Average("lora1", "lora2"), None),
    gw.Average("p0", "p1", "p2", weights=[0.2, 0.5, 0.3]),
    gw.Average("p0", gw.Average("p1", None), "p0", normalize=False),
    gw.Stack("par0", "par1"),
]


@pytest.mark.parametrize("composition", COMPOSITIONS, ids=str)
def test_it_computes_the_same(lab: Lab, composition: Any) -> None:
    with torch.no_grad():
        expected = lab.run(composition)
    made = lab.adapters.collapse(composition, "new")
    for module in lab.adapters.modules_of("new").values():
        module.double()
    again = lab.adapters.collapse(composition, "in double")
    assert made.error == again.error == 0.0
    _to_double(lab, composition)
    with torch.no_grad():
        close(lab.run("new"), expected, 1e-6)
        close(lab.run("exact"), expected, 1e-10)


def _to_double(lab: Lab, composition: Any) -> None:
    """The same in float64: products are added up so, and rounded to the dtype of the new weights."""
    from graftwork.attach import collapsing

    made, _ = collapsing.collapse(lab.adapters, composition, "exact", None, None)
    products = collapsing.products_of(lab.adapters, collapsing.constant_weights(composition))
    for place, module in made.modules.items():
        collapsing._fill(module.double(), products[place])
    lab.adapters.register("exact", *made)


def test_a_cut_is_the_nearest_and_says_what_it_lost(lab: Lab) -> None:
    both = gw.Stack("lora1", "lora2")
    deltas = {
        key: sum(
            (m.scale * m.up @ m.down for n in ("lora1", "lora2") for m in [lab.adapters.modules_of(n)[key]]),
            torch.zeros(()),
        ).detach()
        for key in lab.adapters.modules_of("lora1")
    }
    made = lab.adapters.collapse(both, "cut", rank=3)
    assert set(made.rank.values()) == {3}
    lost = total = 0.0
    for key, module in lab.adapters.modules_of("cut").items():
        values = torch.linalg.svdvals(deltas[key])
        best = float(values[3:].square().sum())
        off = float((module.up.double() @ module.down.double() - deltas[key]).square().sum())
        assert off == pytest.approx(best, rel=1e-4)
        lost, total = lost + best, total + float(values.square().sum())
    assert made.error == pytest.approx((lost / total) ** 0.5)
    assert lab.adapters.collapse(both, "whole", rank=99).error == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(
    ("composition", "options", "error", "says"),
    [
        (None, {}, gw.CompositionError, "there is no adapter in it"),
        (gw.MixedBatch(["p0", "p1", None]), {}, gw.CompositionError, "not the same for every input"),
        (gw.Stack("p0", "p1"), {}, gw.CompositionError, "reads what is added before"),
        (gw.Average("p0", "lora0"), {}, gw.ConfigError, "LoRAs collapse with LoRAs"),
        (gw.Average("p0", "gelu"), {}, gw.ConfigError, "differ in what they read"),
        ("gated", {}, gw.ConfigError, "more than two products"),
        ("own", {}, gw.ConfigError, "norms of their own"),
        (gw.Average("p0", "p1"), {"rank": 2}, gw.ConfigError, "only LoRAs can be cut"),
        ("lora0", {"rank": 0}, gw.ConfigError, "rank is 0"),
        ("nobody", {}, gw.UnknownNameError, "nobody"),
    ],
)
def test_what_is_no_one_adapter_is_refused(
    lab: Lab, composition: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    before = lab.adapters.names
    with pytest.raises(error, match=says):
        lab.adapters.collapse(composition, "new", **options)
    assert lab.adapters.names == before
