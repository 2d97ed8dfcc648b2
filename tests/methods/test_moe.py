"""The mixture of experts: its formula and its losses written out plainly, both ways of computing it, what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import graftwork as gw
from graftwork.errors import ConfigError
from graftwork.methods import Place
from graftwork.methods.layers.experts import BLOCK, Experts, all_of_them, block_for, chosen_alone, chosen_pay, layout
from graftwork.methods.layers.top_k_gating import NoisyGate, balance
from graftwork.methods.moe import MoEModule
from graftwork.sites import Site, Tap
from tests.support.formulas import PHI
from tests.support.interpreter import Lab, close, unsettle

WIDTH = 6


class Around:
    """A context that keeps the losses."""

    def __init__(self, mask: Tensor | None = None) -> None:
        self.mask = mask
        self.losses: list[Tensor] = []

    def padding_mask(self, read: Tensor) -> Tensor | None:
        return self.mask

    def add_loss(self, loss: Tensor) -> None:
        self.losses.append(loss)


def build(learning: bool = False, **options: Any) -> MoEModule:
    site = Site("encoder.layer", 0, "feed_forward", "encoder.layer.0", Tap("encoder.layer.0", "output"), WIDTH)
    config = gw.MoE(**{"bottleneck_size": 4, "experts": 5, "dtype": "float64", **options})
    module = config.build(Place(site, 2))
    assert module is not None
    unsettle([module], 3, 0.8)
    module.trainable = learning
    return module.train(learning)


def read(rows: int = 3, positions: int = 7) -> Tensor:
    draw = torch.Generator().manual_seed(5)
    return torch.randn(rows, positions, WIDTH, generator=draw, dtype=torch.float64)


def plain(module: MoEModule, h: Tensor, noise: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """δ, CV²(importance) and CV²(load), one position after another."""
    config = module.config
    n, k = config.experts, config.top_k
    importance, load = torch.zeros(n, dtype=h.dtype), torch.zeros(n, dtype=h.dtype)
    delta = torch.zeros_like(h)
    for row in range(h.shape[0]):
        for at in range(h.shape[1]):
            x = h[row, at]
            clean = module.gate.weight @ x
            spread = torch.zeros(n, dtype=h.dtype)
            if noise is not None:
                assert module.gate.noise is not None
                spread = torch.log1p(torch.exp(module.gate.noise @ x)) + 0.01
            logits = clean + (0 if noise is None else noise[row, at] * spread)
            best = sorted(range(n), key=lambda i: -float(logits[i]))
            exponents = torch.stack([torch.exp(logits[i]) for i in best[:k]])
            gates = dict(zip(best[:k], exponents / exponents.sum(), strict=True))
            for i, gate in gates.items():
                features = PHI[config.activation](
                    module.down[i] @ x + (0 if module.down_bias is None else module.down_bias[i])
                )
                expert = module.up[i] @ features + (0 if module.up_bias is None else module.up_bias[i])
                delta[row, at] = delta[row, at] + gate * expert
            if mask is not None and not mask[row, at]:
                continue
            for i in range(n):
                if i in gates:
                    importance[i] = importance[i] + gates[i]
                if noise is not None and k < n:
                    threshold = logits[best[k]] if i in gates else logits[best[k - 1]]
                    load[i] = load[i] + 0.5 * (1 + torch.erf((clean[i] - threshold) / spread[i] / math.sqrt(2)))
    return delta, variation(importance), variation(load)


def variation(v: Tensor) -> Tensor:
    mean = v.sum() / len(v)
    return ((v - mean) ** 2).sum() / len(v) / (mean**2 + 1e-10)


# -- the formula -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"top_k": 1}, {"top_k": 5}, {"activation": "gelu"}, {"up_bias": False}, {"down_bias": False}],
    ids=str,
)
def test_it_is_its_formula(options: dict[str, Any]) -> None:
    module, h = build(**options), read()
    around = Around()
    close(module(h, around), plain(module, h, None, None)[0], 1e-12)
    assert not around.losses


@pytest.mark.parametrize("model", ["bert", "gpt2", "gpt_neox"])
@pytest.mark.parametrize(
    "options", [{}, {"sites": ("attention", "feed_forward"), "reads": "output"}, {"writes": "stream"}], ids=str
)
def test_a_model_with_it_is_its_formula(model: str, options: dict[str, Any]) -> None:
    here = Lab(model)
    here.add("a", gw.MoE(bottleneck_size=4, experts=5, **options))
    with torch.no_grad():
        plain, actual, expected = here.run(None), here.run("a"), here.expect("a")
    close(actual, expected)
    assert float((actual - plain).abs().max()) > 1e-3


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_noise_and_losses_are_the_papers(top_k: int, masked: bool) -> None:
    module, h = build(learning=True, top_k=top_k, importance=0.3, load=0.7), read()
    mask = torch.arange(7)[None] < torch.tensor([7, 4, 1])[:, None] if masked else None
    around = Around(mask)
    torch.manual_seed(8)
    delta = module(h, around)
    torch.manual_seed(8)
    noise = torch.randn(3, 7, 5, dtype=torch.float64)
    expected, importance, load = plain(module, h, noise, mask)
    close(delta, expected, 1e-12)
    (loss,) = around.losses
    close(loss, 0.3 * importance + 0.7 * load, 1e-9)
    names = [n for n, _ in module.named_parameters()]
    wanted = torch.autograd.grad(0.3 * importance + 0.7 * load + expected.sin().sum(), list(module.parameters()))
    actual = torch.autograd.grad(loss + delta.sin().sum(), list(module.parameters()))
    for name, one, other in zip(names, actual, wanted, strict=True):
        assert float((one - other).abs().max()) <= 1e-9 * max(float(other.abs().max()), 1e-9), name


def test_what_padding_holds_changes_no_loss() -> None:
    mask = torch.arange(7)[None] < torch.tensor([7, 4, 1])[:, None]
    losses = []
    for filler in (0.0, 50.0):
        module, around = build(learning=True), Around(mask)
        torch.manual_seed(8)
        module(read().masked_fill(~mask[..., None], filler), around)
        losses += around.losses
    assert torch.equal(losses[0], losses[1])


def test_all_chosen_or_no_noise_leave_the_importance_alone() -> None:
    for options in ({"top_k": 5}, {"noise": False}):
        around = Around()
        build(learning=True, importance=0.0, **options)(read(), around)
        assert not around.losses
        build(learning=True, **options)(read(), around)
        assert len(around.losses) == 1
    around = Around()
    build(learning=True, importance=0.0, load=0.0)(read(), around)
    assert not around.losses


def test_an_even_load_costs_nothing_and_a_lone_expert_most() -> None:
    gate = NoisyGate(4, 3, noise=True, dtype=torch.float64)
    h = torch.ones(1, 4000, 3, dtype=torch.float64)
    torch.manual_seed(0)
    even = balance(gate(h, 1, noisy=True), None, importance=1.0, load=1.0)
    with torch.no_grad():
        gate.weight[2] += 50
    lone = balance(gate(h, 1, noisy=True), None, importance=1.0, load=1.0)
    assert even is not None and lone is not None
    assert float(even) < 0.02
    assert float(lone) == pytest.approx(6.0, abs=1e-6)  # CV² of one of four, twice: 3 + 3


def test_it_starts_with_an_even_gate() -> None:
    site = Site("encoder.layer", 0, "feed_forward", "encoder.layer.0", Tap("encoder.layer.0", "output"), WIDTH)
    module = gw.MoE().build(Place(site, 2))
    assert module is not None
    assert not module.gate.weight.any() and module.gate.noise is not None and not module.gate.noise.any()
    assert not any(torch.equal(module.down[i], module.down[j]) for i in range(8) for j in range(i))
    gates = module.gates(read())
    assert torch.equal(gates.chosen, torch.tensor([0, 1]).expand_as(gates.chosen))  # among equals the first
    assert torch.equal(gates.values, torch.full_like(gates.values, 0.5))


# -- both ways ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experts", "top_k", "positions"), [(1, 1, 3), (4, 2, 5), (4, 1, 200), (8, 3, 77), (3, 3, BLOCK)]
)
@pytest.mark.parametrize("bare", [False, True])
def test_the_chosen_alone_are_all_of_them(experts: int, top_k: int, positions: int, bare: bool) -> None:
    draw = torch.Generator().manual_seed(experts + positions)

    def weight(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_()

    h = weight(2, positions, WIDTH)
    parts = weight(experts, 4, WIDTH), weight(experts, 4), weight(experts, WIDTH, 4), weight(experts, WIDTH)
    down, bias, up, constant = parts
    stacked = Experts(down, None if bare else bias, up, None if bare else constant, "gelu")
    gate = NoisyGate(experts, WIDTH, noise=False, dtype=torch.float64)
    unsettle([gate], 1, 2.0)
    leaves = [h, gate.weight, down, up] + ([] if bare else [bias, constant])
    results = []
    for way in (all_of_them, chosen_alone):
        delta = way(stacked, h, gate(h, top_k, noisy=False))
        results.append([delta, *torch.autograd.grad(delta.sin().sum(), leaves)])
    for one, other in zip(*results, strict=True):
        close(one, other, 1e-10) if bool(other.any()) else close(one + 1, other + 1, 1e-10)


@pytest.mark.parametrize("chosen", [[0] * 70, [2] * 33 + [0], [1, 0, 2, 1, 1], list(range(3)) * 50])
def test_every_block_is_one_experts(chosen: list[int]) -> None:
    expert = torch.tensor(chosen)
    places, owner = layout(expert, 3, BLOCK)
    assert len(set(places.tolist())) == len(chosen)
    assert torch.equal(owner[places // BLOCK], expert)
    assert len(owner) == len(chosen) // BLOCK + 3
    assert int(places.max()) < len(owner) * BLOCK


def test_only_the_chosen_are_computed() -> None:
    seen = []

    class Counting(Experts):
        def features(self, raw: Tensor) -> Tensor:
            seen.append(raw.numel() // 4)
            return raw

    draw = torch.randn(16, 4, WIDTH), None, torch.randn(16, WIDTH, 4), None, "identity"
    gate = NoisyGate(16, WIDTH, noise=False, dtype=torch.float32)
    unsettle([gate], 1, 2.0)
    h = torch.randn(1, 1000, WIDTH)
    for way in (all_of_them, chosen_alone):
        way(Counting(*draw), h, gate(h, 2, noisy=False))
    block = block_for(2000, 16)
    assert seen == [16_000, (2000 // block + 16) * block]
    assert seen[1] < seen[0] / 4


def test_the_cheaper_way_is_taken() -> None:
    assert not chosen_pay(4, 8, 2, 16)
    assert not chosen_pay(4096, 4, 2, 16)
    assert chosen_pay(4096, 16, 2, 64)


# -- when there is noise -----------------------------------------------------------------------------------------------


def test_noise_is_there_in_training_alone() -> None:
    h, around = read(), Around()
    for module, fixed in (
        (build(), True),
        (build().train(), True),
        (build(learning=True).eval(), True),
        (build(True), False),
    ):
        assert torch.equal(module(h, around), module(h, around)) is fixed
        assert bool(around.losses) is not fixed


def test_noise_learns_and_without_it_has_a_gradient_of_zero() -> None:
    module, h = build(learning=True), read()
    module(h, Around()).sin().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())
    module.zero_grad()
    module.eval()(h, Around()).sin().sum().backward()
    assert module.gate.noise is not None and module.gate.noise.grad is not None
    assert not module.gate.noise.grad.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experts": 0}, "experts is 0; it must be a whole number of 1 or more"),
        ({"top_k": 0}, "top_k is 0; it must be a whole number from 1 to 8"),
        ({"top_k": 9}, "top_k is 9; it must be a whole number from 1 to 8"),
        ({"noise": 1}, "noise is 1; it must be True or False"),
        ({"load": -0.1}, "load is -0.1; it must be a number of 0.0 or more"),
        ({"importance": None}, "importance is None; it must be a number of 0.0 or more"),
        ({"skip": "dense"}, "MoE has no option 'skip'"),
    ],
)
def test_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        gw.MoE(**options)
