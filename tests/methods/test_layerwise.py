"""Layers go by their own numbers, which need not begin at 0; counts of layers count those that are there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(x)


def attached() -> tuple[nn.Module, gw.Adapters]:
    """A stack of four of which the first and the third have no sites, as the stages of MobileViT: layers 1 and 3."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), Block(), nn.Linear(8, 8), Block())
    return model, gw.attach(model, example_inputs=(torch.zeros(2, 5, 8),))


def places(adapters: gw.Adapters, name: str) -> list[str]:
    return sorted(adapters.modules_of(name))


def test_the_numbers_are_those_of_the_model() -> None:
    assert attached()[1].sites.numbers == {"": (1, 3)}
    assert attached()[1].sites.stacks == {"": 2}


@pytest.mark.parametrize(("left_out", "there"), [([1], "3"), ([3], "1"), ([".3"], "1")])
def test_leave_out(left_out: list[int | str], there: str) -> None:
    _, adapters = attached()
    adapters.add("a", gw.Pfeiffer(bottleneck_size=2, leave_out=left_out))
    assert places(adapters, "a") == [f"{there}.feed_forward"]


@pytest.mark.parametrize("config", [gw.Pfeiffer, gw.PAL, gw.Hyperformer])
@pytest.mark.parametrize("layer", [0, 2, 4])
def test_a_layer_without_sites_is_refused(config: type[gw.AdapterConfig], layer: int) -> None:
    _, adapters = attached()
    more = {"tasks": ["t"]} if config is gw.Hyperformer else {}
    with pytest.raises(
        gw.ConfigError, match=rf"leave_out names layer {layer}, which is not there; the layers are 1 and 3"
    ):
        adapters.add("a", config(leave_out=[layer], **more))


def test_a_value_a_layer() -> None:
    _, adapters = attached()
    adapters.add("a", gw.Pfeiffer(bottleneck_size={1: 2, 3: 4}))
    assert {key: len(module.down) for key, module in adapters.modules_of("a").items()} == {
        "1.feed_forward": 2,
        "3.feed_forward": 4,
    }


@pytest.mark.parametrize(("layers", "moved"), [(0, {1, 3}), (1, {3}), (2, set()), ([1], {3}), ([3], {1})])
def test_drop(layers: int | list[int], moved: set[int]) -> None:
    _, adapters = attached()
    adapters.add("a", gw.Pfeiffer(bottleneck_size=2))
    with torch.no_grad():
        for module in adapters.modules_of("a").values():
            module.up_bias.fill_(1.0)
    with adapters.using(gw.Drop("a", layers=layers)):
        assert {n for n in (1, 3) if _stands(adapters, n)} == moved


def _stands(adapters: gw.Adapters, layer: int) -> bool:
    """Whether a constant that the adapter adds arrives behind a layer."""
    model = adapters.model
    x, seen = torch.randn(2, 5, 8), []
    handle = model[layer].register_forward_hook(lambda block, args, output: seen.append((args[0], output)))
    with torch.no_grad():
        model(x)
        handle.remove()
        taken, returned = seen[0]
        with adapters.using(None):
            plain = model[layer](taken)
    return not torch.allclose(plain, returned)


def test_drop_of_a_layer_that_is_not_there() -> None:
    _, adapters = attached()
    adapters.add("a", gw.Pfeiffer(bottleneck_size=2))
    for layers in ([0], 3):
        with pytest.raises(gw.CompositionError, match="layer"):
            adapters.active = gw.Drop("a", layers=layers)


def test_k_adapter_needs_every_layer() -> None:
    _, adapters = attached()
    with pytest.raises(gw.ConfigError, match="only the layers 1, 3 have sites"):
        adapters.add("a", gw.KAdapter())
