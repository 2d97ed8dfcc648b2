"""TIES and DARE: the formulas written out plainly, on random weights; and on adapters."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import graftwork as gw
from graftwork.attach.merge_rules import combined
from tests.support.interpreter import Lab, close, unsettle


def vectors(count: int = 3) -> list[dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [
        {"a": torch.randn(5, 4, generator=draw).double(), "b": torch.randn(7, generator=draw).double()}
        for _ in range(count)
    ]


def ties_by_hand(taus: list[Tensor], weights: list[float], density: float) -> Tensor:
    """Trim, elect, merge: one number after another, as in the paper's algorithm."""
    trimmed = []
    for tau in taus:
        kept = sorted(range(len(tau)), key=lambda n: -abs(float(tau[n])))[: round(density * len(tau))]
        trimmed.append([float(tau[n]) if n in kept else 0.0 for n in range(len(tau))])
    merged = []
    for n in range(len(taus[0])):
        terms = [w * t[n] for w, t in zip(weights, trimmed, strict=True)]
        sign = math.copysign(1, sum(terms)) if sum(terms) else 0.0
        agreeing = [t for t in terms if t * sign > 0]
        merged.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return torch.tensor(merged, dtype=torch.float64)


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, -1.0, 2.0]])
def test_ties_is_the_formula(density: float, weights: list[float]) -> None:
    given = vectors()
    merged = combined(given, weights, "ties", density, torch.Generator())
    flat = [torch.cat([v["a"].flatten(), v["b"]]) for v in given]
    close(torch.cat([merged["a"].flatten(), merged["b"]]), ties_by_hand(flat, weights, density), 1e-14)


def test_dare_drops_at_random_and_rescales() -> None:
    given, weights = vectors(), [0.5, 1.0, -2.0]
    merged = combined(given, weights, "dare", 0.4, torch.Generator().manual_seed(3))
    draw = torch.Generator().manual_seed(3)
    masks = [{k: torch.empty_like(t).bernoulli_(0.4, generator=draw) for k, t in v.items()} for v in given]
    for key in ("a", "b"):
        expected = sum(w * v[key] * m[key] / 0.4 for w, v, m in zip(weights, given, masks, strict=True))
        close(merged[key], expected, 1e-14)
    plain = combined(given, weights, "dare", 1.0, torch.Generator())
    close(plain["a"], sum(w * v["a"] for w, v in zip(weights, given, strict=True)), 1e-14)


def test_dare_keeps_the_mean() -> None:
    ones = [{"a": torch.ones(200_000).double()}]
    for density in (0.1, 0.9):
        kept = combined(ones, [1.0], "dare", density, torch.Generator().manual_seed(0))["a"]
        assert float(kept.mean()) == pytest.approx(1.0, abs=0.01)
        assert float((kept != 0).double().mean()) == pytest.approx(density, abs=0.01)


def test_bottlenecks_merge_by_their_differences_from_a_start() -> None:
    lab = Lab("bert")
    for n, name in enumerate(("start", "a", "b")):
        lab.adapters.add(name, gw.Pfeiffer(bottleneck_size=3))
        if n:
            for key, module in lab.adapters.modules_of(name).items():
                module.load_state_dict(lab.adapters.modules_of("start")[key].state_dict())
            unsettle([*lab.adapters.modules_of(name).values()], n)
    lab.adapters.merge("merged", ["a", "b"], start="start", rule="ties", density=0.3)

    def flat(name: str) -> Tensor:
        return torch.cat(
            [p.detach().double().flatten() for m in lab.adapters.modules_of(name).values() for p in m.parameters()]
        )

    taus = [flat(name) - flat("start") for name in ("a", "b")]
    close(flat("merged"), flat("start") + ties_by_hand(taus, [1.0, 1.0], 0.3), 1e-6)


def test_loras_of_different_ranks_merge_by_their_products() -> None:
    lab = Lab("bert")
    lab.add("a", gw.LoRA(rank=2, targets=["query"]))
    lab.add("b", gw.LoRA(rank=5, targets=["query", "key"]))
    made = lab.adapters.merge("merged", ["a", "b"], rule="ties", density=0.4, rank=32)
    assert set(made.alike) == {("a", "b")}

    def delta(name: str, key: str) -> Tensor:
        module = lab.adapters.modules_of(name).get(key)
        return (
            torch.zeros(32, 32).double()
            if module is None
            else (module.scale * module.up @ module.down).detach().double()
        )

    keys = list(lab.adapters.modules_of("b"))
    flat = {name: torch.cat([delta(name, key).flatten() for key in keys]) for name in ("a", "b", "merged")}
    expected = ties_by_hand([flat["a"], flat["b"]], [1.0, 1.0], 0.4)
    close(flat["merged"], expected, 1e-5)
    lab.adapters.merge("small", {"a": 0.5, "b": 0.5}, rule="dare", density=0.9, seed=4)
    assert lab.adapters.config("small").rank == 5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rule": "mean"}, "rule is 'mean'"),
        ({"rule": "ties", "density": 0}, "density is 0"),
        ({"rule": "dare", "density": 1.5}, "density is 1.5"),
        ({"rank": 3}, "only LoRAs merged by TIES or DARE"),
        ({"rule": "ties", "rank": 3}, "only LoRAs merged by TIES or DARE"),
    ],
)
def test_what_is_wrong_is_refused(options: dict[str, object], says: str) -> None:
    lab = Lab("bert")
    lab.add("a", gw.Pfeiffer())
    lab.add("b", gw.Pfeiffer())
    with pytest.raises(gw.ConfigError, match=says):
        lab.adapters.merge("x", ["a", "b"], **options)
    assert lab.adapters.names == ("a", "b")
