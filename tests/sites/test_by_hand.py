"""Sites from a few dotted paths."""

from __future__ import annotations

import pytest
from torch import nn

from graftwork.errors import ConfigError, SiteError
from graftwork.sites import SiteMap, Tap, discover, sites_from_paths
from tests.support.toy_models import IDS, WIDTH, Model
from tests.zoo.models import build


def test_what_discovery_finds_can_be_given():
    model = Model()
    given = sites_from_paths(model, {"attention": "blocks.*.attn[0]", "feed_forward": "blocks.*.mlp"})
    found = [site for site in discover(model, (IDS,)) if site.kind in ("attention", "feed_forward")]
    assert [site.output for site in given] == [site.output for site in found]
    assert [(s.stack, s.layer, s.kind, s.block, s.width, s.index) for s in given] == [
        (s.stack, s.layer, s.kind, s.block, s.width, s.index) for s in found
    ]
    assert all(site.residual is None for site in given)
    assert len(SiteMap(given)) == 4


def test_several_of_a_kind_and_nested_lists():
    zoo = build("t5")
    sites = sites_from_paths(
        zoo.model,
        {
            "attention": "encoder.block.*.layer.0.SelfAttention[0]",
            "feed_forward": "encoder.block.*.layer.1.DenseReluDense",
        },
    )
    assert [site.key for site in sites] == [
        "encoder.block.0.attention",
        "encoder.block.0.feed_forward",
        "encoder.block.1.attention",
        "encoder.block.1.feed_forward",
    ]
    model = Model()
    twice = sites_from_paths(model, {"feed_forward": ["blocks.*.mlp.0", "blocks.*.mlp.2"]})
    assert [(s.name, s.width) for s in twice[:2]] == [("feed_forward", 2 * WIDTH), ("feed_forward_1", WIDTH)]


def test_keys_of_mappings_are_slots_and_widths_can_be_given():
    (site,) = sites_from_paths(nn.Sequential(nn.ReLU()), {"mixer": "0[hidden]"}, width=5)
    assert (site.output, site.width, site.layer) == (Tap("0", "output", "hidden"), 5, 0)


@pytest.mark.parametrize(
    ("paths", "error", "message"),
    [
        ({"ffn": "blocks.*.mlp"}, ConfigError, "kind 'ffn' is not known; it is one of attention,"),
        ({"attention": "blocks.*.atn"}, SiteError, r"no module is called 'blocks.\*.atn'.*blocks.\*.attn"),
        ({"attention": "blocks.*.mlp.1"}, SiteError, r"width of what 'blocks.0.mlp.1' returns.*pass width="),
    ],
)
def test_refusals(paths, error, message):
    with pytest.raises(error, match=message):
        sites_from_paths(Model(), paths)
