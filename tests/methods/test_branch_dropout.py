"""Where an adapter stands to the dropout of T5's branches: after it by default, inside where the sites say so."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

import graftwork as gw
from tests.support.attached import lively

INSIDE = {"attention": ("0.SelfAttention", 0), "feed_forward": ("1.DenseReluDense", None)}


def tiny() -> Any:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 2, "vocab_size": 30}
    return hf.T5EncoderModel(hf.T5Config(**sizes, dropout_rate=0.5)).double()


def sites_inside(model: Any) -> list[gw.Site]:
    """The sites with the outputs before the dropout."""
    moved = []
    for site in gw.discover(model):
        if site.kind in INSIDE:
            path, slot = INSIDE[site.kind]
            site = dataclasses.replace(site, output=gw.Tap(f"{site.block}.layer.{path}", "output", slot))
        moved.append(site)
    return moved


def by_hand(plain: Any, modules: dict[str, Any], *, inside: bool) -> Any:
    """The model with the adapters in its modules: those of the branches, or their dropouts."""
    for key, adapter in modules.items():
        layer, kind = int(key.split(".")[-2]), key.split(".")[-1]
        path = INSIDE[kind][0]
        branch = plain.encoder.block[layer].layer[int(path[0])]
        where = branch.get_submodule(path[2:]) if inside else branch.dropout

        def add(_: nn.Module, __: Any, out: Any, adapter: Any = adapter) -> Any:
            y = out if isinstance(out, torch.Tensor) else out[0]
            z = torch.relu(y @ adapter.down.T + adapter.down_bias) @ adapter.up.T + adapter.up_bias
            return y + z if isinstance(out, torch.Tensor) else (y + z, *out[1:])

        where.register_forward_hook(add)
    return plain


@pytest.mark.parametrize("inside", [False, True])
def test_the_sites_say_whether_what_is_added_is_dropped_with_the_branch(inside: bool) -> None:
    model = tiny()
    plain = copy.deepcopy(model)
    adapters = gw.attach(model, sites=sites_inside(model) if inside else None)
    adapters.add("a", gw.Standard(bottleneck_size=4, dtype="float64"))
    lively(adapters, "a", size=0.5)
    adapters.active = "a"
    expected = by_hand(plain, adapters.modules_of("a"), inside=inside)
    ids, found = torch.arange(3, 15).reshape(2, 6), []
    for one in (model, expected):
        torch.manual_seed(5)
        found.append(one.train()(input_ids=ids).last_hidden_state)
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    assert (found[0] - tiny().train()(input_ids=ids).last_hidden_state).abs().max() > 0.1
