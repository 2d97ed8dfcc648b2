"""Projections: the linear modules inside the layers, apart from the sites of the stream."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import graftwork as gw
from graftwork.sites import sites_from_paths
from tests.support.interpreter import sites_of
from tests.zoo.models import build

NAMES = {
    "bert": ("query", "key", "value", "dense"),
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "llama": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "t5": ("q", "k", "v", "o", "wi", "wo"),
}


@pytest.mark.parametrize("name", NAMES)
def test_they_are_the_linear_modules_of_the_layers(name: str) -> None:
    model, sites = build(name).model, sites_of(name)
    assert sites.projection_names == NAMES[name]
    blocks = tuple(f"{site.block}." for site in sites if site.stack)
    kinds = (nn.Linear, Conv1D)
    inside = {path for path, m in model.named_modules() if isinstance(m, kinds) and path.startswith(blocks)}
    assert {site.output.module for site in sites.projections} == inside
    for site in sites.projections:
        weight = model.get_submodule(site.output.module).weight
        shape = (site.width, site.input_width)
        assert tuple(weight.shape) == (
            shape if isinstance(model.get_submodule(site.output.module), nn.Linear) else shape[::-1]
        )
        assert site.rows == 0
        assert site.layer_input is not None


def test_what_counts_sites_does_not_count_them() -> None:
    sites = sites_of("bert")
    assert "projection" in sites.kinds
    assert not sites.of_kind("projection")
    assert len(sites) + len(sites.projections) == len(sites.places)
    assert all(site.kind != "projection" for site in sites)
    assert [sites.place_of[sites.key_of(site)] for site in sites.places] == list(range(len(sites.places)))
    assert "12 projections: query, key, value, dense" in str(sites)


def test_they_go_to_json_and_back() -> None:
    sites = sites_of("llama")
    again = gw.SiteMap.from_json(sites.to_json())
    assert again == sites
    assert again.projections == sites.projections


class Block(nn.Module):
    """A layer whose attention and feed-forward are linear modules called so."""

    def __init__(self) -> None:
        super().__init__()
        self.feed_forward = nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.feed_forward(x)
        return x + self.down(self.up(x).relu())


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Block(), Block()])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def test_one_that_is_called_like_a_site_is_left_to_that() -> None:
    adapters = gw.attach(Toy(), example_inputs=(torch.zeros(2, 3, 8),))
    assert {site.name for site in adapters.sites.projections} == {"up", "down"}
    adapters.add("x", gw.LoRA())
    assert len(adapters.modules_of("x")) == 4


def test_they_are_found_next_to_sites_by_hand() -> None:
    model: Any = Toy()
    adapters = gw.attach(model, sites=sites_from_paths(model, {"feed_forward": "layers.*.down"}))
    adapters.add("x", gw.LoRA(targets=["up"]))
    adapters.active = "x"
    for module in adapters.modules_of("x").values():
        nn.init.normal_(module.up)
    x = torch.randn(2, 3, 8)
    with adapters.using(None):
        plain = model(x)
    assert not torch.equal(model(x), plain)
