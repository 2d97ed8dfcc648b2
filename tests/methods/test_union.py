"""Unions: the sum written out plainly, what is banked, what is refused, JSON, merging."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

import graftwork as gw
from graftwork.methods import Place
from graftwork.methods.union import UnionModule
from tests.contract.cases import sites_of
from tests.support.interpreter import unsettle
from tests.zoo.models import build, clone_inputs, main_output

SITE = gw.Site("layers", 1, "feed_forward", "layers.1", gw.Tap("layers.1.out", "output"), 12)


class Anywhere:
    """A call of which nothing is known."""

    def padding_mask(self, read: Tensor) -> Tensor | None:
        return None

    def add_loss(self, loss: Tensor) -> None:
        raise AssertionError("no part has a loss")


def built(*parts: Any) -> UnionModule:
    torch.manual_seed(0)
    module = gw.Union(*parts).build(Place(site=SITE, layers=3))
    assert isinstance(module, UnionModule)
    unsettle([module], 1, 0.3)
    return module.double()


def reads(*names: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(2, 4, 12, generator=generator, dtype=torch.float64) for _ in names]


def bottleneck(module: Any, h: Tensor, scale: float) -> Tensor:
    """scale · (U relu(D h + b) + c)."""
    raw = h @ module.down.T + module.down_bias
    return scale * ((raw * (raw > 0)) @ module.up.T + module.up_bias)


def test_parts_add_up_each_with_its_own_read() -> None:
    """δ = A_1(y) + A_2(s)."""
    module = built(gw.Bottleneck(), gw.Parallel(bottleneck_size=5, scale=3.0))
    assert (module.reads, module.also_reads) == ("output", ("residual",))
    y, s = reads("output", "residual")
    with torch.no_grad():
        expected = bottleneck(module.parts[0], y, 1.0) + bottleneck(module.parts[1], s, 3.0)
        torch.testing.assert_close(module(y, Anywhere(), s), expected, rtol=1e-12, atol=1e-12)


def test_features_of_one_read_are_banked_side_by_side() -> None:
    module = built(gw.Bottleneck(), gw.Bottleneck(bottleneck_size=3, activation="tanh", up_bias=False, scale=2.0))
    assert module.banked
    assert module.foldable
    (y,) = reads("output")
    with torch.no_grad():
        up, constant = module.readout()
        torch.testing.assert_close(module.features(y) @ up.T + constant, module(y, Anywhere()))
    assert not built(gw.Bottleneck(), gw.Bottleneck(dropout=0.1)).banked
    assert not built(gw.Bottleneck(), gw.Bottleneck(gate=True)).banked
    assert not built(gw.Bottleneck(), gw.Bottleneck(reads="residual")).banked


def test_a_union_is_its_parts_in_a_model() -> None:
    """A parallel part, which no other part's addition reaches, and one that reads the output: Stack gives the sum."""
    union, apart = build("bert", torch.float64), build("bert", torch.float64)
    ours, theirs = (gw.attach(zoo.model, sites=sites_of("bert")) for zoo in (union, apart))
    first, second = gw.Parallel(), gw.Bottleneck(sites=("feed_forward",))
    ours.add("x", gw.Union(second, first))
    unsettle(ours.modules_of("x").values(), 3, 0.2)
    theirs.add("first", second)
    theirs.add("second", first)
    for n, name in enumerate(("first", "second")):
        for key, module in theirs.modules_of(name).items():
            module.load_state_dict(ours.modules_of("x")[key].parts[n].state_dict())
    ours.active, theirs.active = "x", gw.Stack("first", "second")
    with torch.no_grad():
        mine, expected = (main_output(zoo.model(**clone_inputs(zoo.inputs))) for zoo in (union, apart))
    torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)


def test_its_weights_are_those_of_its_parts() -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model, sites=sites_of("bert"))
    parts = [gw.Houlsby(), gw.Parallel(), gw.Compacter(norms="base")]
    for n, part in enumerate(parts):
        adapters.add(f"p{n}", part)
    adapters.add("x", gw.Union(*parts))
    rows = {row.name: row for row in adapters.summary().rows}
    assert rows["x"].weights == sum(rows[f"p{n}"].weights for n in range(3))
    assert rows["x"].method == "union of 3"
    adapters.merge("m", {"x": 1.0})
    assert {k: v.shape for k, v in adapters.shared_of("m").state_dict().items()} == {
        k: v.shape for k, v in adapters.shared_of("x").state_dict().items()
    }


def test_a_union_of_unions_is_its_parts_and_json_says_so() -> None:
    inner = gw.Union(gw.Pfeiffer(), gw.Parallel())
    whole = gw.Union(inner, gw.Compacter())
    assert whole == gw.Union(gw.Pfeiffer(), gw.Parallel(), gw.Compacter())
    data = json.loads(json.dumps(whole.to_dict()))
    assert data.keys() == {"method", "parts"}
    assert [part["method"] for part in data["parts"]] == ["pfeiffer", "parallel", "compacter"]
    assert gw.config_from_dict(data) == whole
    assert gw.Union(parts=[gw.Pfeiffer(), {"method": "parallel"}]) == inner
    assert hash(whole) == hash(gw.config_from_dict(data))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (gw.Union, "no parts"),
        (lambda: gw.Union("pfeiffer"), "'pfeiffer' is no configuration"),
        (lambda: gw.Union(gw.Pfeiffer(), sites=("layer",)), "no option 'sites'"),
        (lambda: gw.Union(gw.Pfeiffer(), norms="own"), "in the part"),
        (lambda: gw.Union(gw.Hyperformer(tasks=("mnli", "qqp"))), "Hyperformer serves several tasks"),
    ],
)
def test_what_is_no_union_is_refused(wrong: Any, says: str) -> None:
    with pytest.raises(gw.ConfigError, match=says):
        wrong()


@pytest.mark.parametrize(
    ("parts", "error", "says"),
    [
        ((gw.Houlsby(), gw.Parallel(norms="own")), gw.ConfigError, r"part 0 \(Houlsby\) and part 1 \(Parallel\) both"),
        ((gw.Pfeiffer(), gw.ResidualAdapter()), gw.SiteError, "ResidualAdapter stands at"),
        ((gw.InvertiblePfeiffer(), gw.Pfeiffer(sites=("embedding",))), gw.ConfigError, "inverse"),
        ((gw.Pfeiffer(leave_out=(7,)), gw.Parallel()), gw.ConfigError, "names layer 7"),
    ],
)
def test_what_does_not_fit_a_model_is_refused_and_leaves_nothing(parts: Any, error: type[Exception], says: str) -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model, sites=sites_of("bert"))
    with pytest.raises(error, match=says):
        adapters.add("x", gw.Union(*parts))
    assert adapters.names == ()
    assert not any("graftwork" in name.split(".") for name in zoo.model.state_dict())


def test_an_invertible_part_cannot_be_weighed() -> None:
    zoo = build("bert")
    adapters = gw.attach(zoo.model, sites=sites_of("bert"))
    for name in ("a", "b"):
        adapters.add(name, gw.Union(gw.InvertiblePfeiffer(), gw.Parallel()))
    with pytest.raises(gw.CompositionError, match=r"cannot be weighed at .*inverse"):
        adapters.active = gw.Average("a", "b")
    adapters.active = gw.Stack("a", "b")
