"""AdaMix: what is drawn in training, the merged adapter, its export, what it is made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import graftwork as gw
from graftwork.methods.adamix import AdaMixModule
from tests.methods.test_bottleneck import NoPadding, place
from tests.support.formulas import PHI
from tests.support.interpreter import Lab, close, unsettle

WIDTH = 8


def module_of(learning: bool = True, **options: Any) -> AdaMixModule:
    module = gw.AdaMix(**{"bottleneck_size": 3, "dtype": "float64", **options}).build(place(width=WIDTH))
    assert isinstance(module, AdaMixModule)
    unsettle([module], 1)
    module.set_trainable(learning)
    return module.train(learning)


def read() -> Tensor:
    return torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def one_of_them(module: AdaMixModule, h: Tensor, i: int, j: int) -> Tensor:
    features = PHI["gelu"](h @ module.down[i].T + module.down_bias[i])
    return features @ module.up[j].T + module.up_bias[j]


@pytest.mark.parametrize("model", ["bert", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("options", [{}, {"share_up": False}, {"share_down": True, "experts": 2}], ids=str)
def test_merged_it_is_its_formula(model: str, options: dict[str, Any]) -> None:
    lab = Lab(model)
    lab.add("a", gw.AdaMix(bottleneck_size=4, **options))
    with torch.no_grad():
        plain, actual, expected = lab.run(None), lab.run("a"), lab.expect("a")
    close(actual, expected)
    assert float((actual - plain).abs().max()) > 1e-3


@pytest.mark.parametrize(("downs", "ups"), [(4, 1), (1, 4), (4, 4), (1, 1)])
def test_a_batch_in_training_uses_one_down_and_one_up_drawn_apart(downs: int, ups: int) -> None:
    module, h = module_of(share_down=downs == 1, share_up=ups == 1), read()
    ways = {(i, j): one_of_them(module, h, i, j) for i in range(downs) for j in range(ups)}
    torch.manual_seed(0)
    drawn = [module(h, NoPadding()) for _ in range(150)]
    taken = [next(way for way, output in ways.items() if torch.allclose(output, one)) for one in drawn]
    assert set(taken) == set(ways)


def test_only_what_is_drawn_learns() -> None:
    module, h = module_of(), read()
    module(h, NoPadding()).sum().backward()
    assert sum(bool(one.any()) for one in module.down.grad) == 1
    assert bool(module.up.grad.any())


@pytest.mark.parametrize("state", ["not trained", "in evaluation"])
def test_otherwise_it_is_the_merged_one(state: str) -> None:
    module, h = module_of(learning=False), read()
    module.set_trainable(state == "in evaluation")
    module.train(state == "not trained")
    down, bias = module.down.mean(0), module.down_bias.mean(0)
    expected = PHI["gelu"](h @ down.T + bias) @ module.up[0].T + module.up_bias[0]
    for _ in range(2):
        close(module(h, NoPadding()), expected, 1e-12)
    with torch.no_grad():
        module.down.zero_()
    assert torch.equal(module(h, NoPadding())[0, 0], module(h, NoPadding())[1, 1])  # what was kept is made again


def test_exported_it_is_a_plain_bottleneck_of_the_same_output() -> None:
    lab = Lab("bert")
    lab.add("a", gw.AdaMix(bottleneck_size=4, up_bias=False, leave_out=(0,)))
    lab.adapters.materialize("a", "merged")
    config: Any = lab.adapters.config("merged")
    assert (type(config), config.bottleneck_size, config.activation) == (gw.Bottleneck, 4, "gelu")
    assert [p.shape for p in next(iter(lab.adapters.modules_of("merged").values())).parameters()] == [
        (4, 32),
        (32, 4),
        (4,),
    ]
    with torch.no_grad():
        close(lab.run("merged"), lab.run("a"), 1e-12)


def test_it_fuses_as_one_adapter() -> None:
    lab = Lab("bert")
    lab.add("a", gw.AdaMix(bottleneck_size=4))
    lab.add("b", gw.Pfeiffer(bottleneck_size=4))
    pool = gw.Fuse("a", "b", name="f")
    lab.add_fusion(pool)
    with torch.no_grad():
        close(lab.run(pool), lab.expect(pool))
    assert all(m.banked and m.foldable for m in lab.adapters.modules_of("a").values())


@pytest.mark.parametrize(
    ("options", "said"),
    [({"experts": 0}, "experts"), ({"share_up": 1}, "share_up"), ({"share_down": None}, "share_down")],
)
def test_what_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(gw.ConfigError, match=f"AdaMix.*{said}"):
        gw.AdaMix(**options)
