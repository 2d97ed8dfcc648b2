"""What is kept of weights is a function of these alone: of no autocast, dtype, or mode in which it was made first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import graftwork as gw
from graftwork.methods.layers.weight_cache import WeightCache, only_kept
from tests.support.attached import lively
from tests.zoo.models import build, clone_inputs, main_output

COMPOSITIONS: dict[str, Callable[[], Any]] = {
    "made by a hypernetwork": lambda: "h:x",
    "made by a hypernetwork, by rows": lambda: gw.MixedBatch(["h:x", "h:y", "a"]),
    "folded": lambda: gw.Fuse("a", "b", name="f"),
    "folded, of Kronecker products": lambda: gw.Fuse("c", "d", name="fc"),
    "a bank of Kronecker products": lambda: gw.Average("c", "d"),
    "rows of Kronecker products": lambda: gw.MixedBatch(["c", "e", "c"]),
    "scales": lambda: gw.ScaLearn("c", "d", name="s"),
    "a gate": lambda: gw.Route("c", "d", name="r"),
    "side by side": lambda: gw.Concat("c", "d", name="j"),
}


def standing() -> tuple[Any, gw.Adapters, dict[str, Tensor]]:
    zoo = build("bert")
    torch.manual_seed(3)
    adapters = gw.attach(zoo.model)
    configs = {
        **{name: gw.Pfeiffer(bottleneck_size=size) for name, size in (("a", 3), ("b", 5))},
        **{name: gw.Compacter(bottleneck_size=size, norms="base") for name, size in (("c", 4), ("d", 8), ("e", 4))},
        "h": gw.Hyperformer(tasks=("x", "y"), norms="base"),
    }
    for name, config in configs.items():
        adapters.add(name, config)
    for block in (
        gw.Fuse("a", "b", name="f"),
        gw.Fuse("c", "d", name="fc"),
        gw.ScaLearn("c", "d", name="s"),
        gw.Route("c", "d", name="r"),
        gw.Concat("c", "d", name="j"),
    ):
        adapters.add_fusion(block)
    for name in (*adapters.names, *adapters.fusions):
        lively(adapters, name)
    inputs = {name: value[:1].expand(3, *value.shape[1:]) for name, value in clone_inputs(zoo.inputs).items()}
    return zoo.model, adapters, inputs


def outputs(model: Any, inputs: dict[str, Tensor], mode: str) -> Tensor:
    """The output in one of the ways in which a model is used."""
    if mode == "autocast":
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            return main_output(model(**inputs))
    if mode == "autocast with gradients":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return main_output(model(**inputs)).detach()
    if mode == "inference":
        with torch.inference_mode():
            return main_output(model(**inputs)).clone()
    if mode == "float64":
        model.double()
        with torch.no_grad():
            found = main_output(model(**inputs))
        model.float()
        return found
    with torch.no_grad():
        return main_output(model(**inputs))


@pytest.mark.parametrize("kind", COMPOSITIONS)
def test_what_was_computed_first_changes_nothing_after_it(kind: str) -> None:
    composition = COMPOSITIONS[kind]()
    fresh: dict[str, Tensor] = {}
    for mode in ("plain", "autocast"):
        model, adapters, inputs = standing()
        adapters.active = composition
        fresh[mode] = outputs(model, inputs, mode)
    assert not torch.equal(fresh["plain"], fresh["autocast"].float())
    for first in ("autocast", "autocast with gradients", "inference", "float64"):
        model, adapters, inputs = standing()
        adapters.active = composition
        outputs(model, inputs, first)
        for then in ("plain", "autocast"):
            assert torch.equal(outputs(model, inputs, then), fresh[then]), (first, then)


@pytest.mark.parametrize("kind", ["made by a hypernetwork", "a bank of Kronecker products"])
def test_what_learns_is_made_as_what_is_fixed(kind: str) -> None:
    """Under autocast the weights that are made in the graph are those that are kept in evaluation."""
    model, adapters, inputs = standing()
    adapters.active = COMPOSITIONS[kind]()
    fixed = outputs(model, inputs, "autocast")
    learning = "h" if kind.startswith("made") else ["c", "d"]
    adapters.train_only(learning, active=COMPOSITIONS[kind]())
    model.eval()
    assert torch.equal(outputs(model, inputs, "autocast with gradients"), fixed)


@pytest.mark.parametrize("kind", COMPOSITIONS)
def test_many_models_in_one_vmap_are_these_one_by_one(kind: str) -> None:
    """Ensembling with torch.func: weights with a dimension in front have no storage to tell them by."""
    model, adapters, inputs = standing()
    adapters.active = COMPOSITIONS[kind]()
    before = outputs(model, inputs, "plain")
    stacked = {name: torch.stack([p.detach(), 1.1 * p.detach()]) for name, p in model.named_parameters()}

    def run(weights: dict[str, Tensor]) -> Tensor:
        return main_output(torch.func.functional_call(model, weights, (), inputs))

    with torch.no_grad():
        together = torch.func.vmap(run)(stacked)
        apart = [run({name: w[n] for name, w in stacked.items()}) for n in range(2)]
    torch.testing.assert_close(together, torch.stack(apart), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1])
    assert torch.equal(outputs(model, inputs, "plain"), before)


def test_it_is_made_where_there_is_no_autocast() -> None:
    """On a device that has none, the meta device among them, and of no weights at all."""
    weight = torch.ones(2, device="meta")
    assert WeightCache(lambda: weight + 1).get([weight]).device.type == "meta"
    assert WeightCache(lambda: 5).get([]) == 5


def test_what_is_kept_is_all_that_is_asked_for() -> None:
    """Inside `only_kept` no weight is looked at, so that a program that is traced has a constant; in this thread alone."""
    weight = torch.ones(2)
    cache, empty = WeightCache(lambda: weight * 2), WeightCache(lambda: weight * 3)
    assert torch.equal(cache.get([weight]), torch.full((2,), 2.0))
    weight.add_(1)
    with only_kept():
        assert torch.equal(cache.get([weight]), torch.full((2,), 2.0))
        assert torch.equal(empty.get([weight]), torch.full((2,), 6.0))
    assert torch.equal(cache.get([weight]), torch.full((2,), 4.0))
