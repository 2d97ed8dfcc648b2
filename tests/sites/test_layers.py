"""Grouping: stacks, layers, blocks and calls."""

from __future__ import annotations

import torch
from torch import nn

from graftwork.sites import discover
from graftwork.sites.discovery.layers import list_children_of
from tests.support.toy_models import WIDTH, Attention, Block, Model, PostNormBlock, feed_forward, findings_of, kinds_of
from tests.zoo.models import build


def test_lists_along_a_path():
    assert list_children_of("encoder.block.0.layer.1.dense") == [
        ("encoder.block", 0, "encoder.block.0"),
        ("encoder.block.0.layer", 1, "encoder.block.0.layer.1"),
    ]
    assert list_children_of("") == []


def test_a_shared_layer_counts_its_calls():
    zoo = build("albert")
    sites = discover(zoo.model)
    stack = "encoder.albert_layer_groups.0.albert_layers"
    assert sites.stacks == {stack: 3}
    attention = sites.of_kind("attention")
    assert [site.layer for site in attention] == [0, 1, 2]
    assert [site.output.call for site in attention] == [0, 1, 2]
    assert {site.block for site in attention} == {f"{stack}.0"}
    assert {site.output.module for site in attention} == {attention[0].output.module}
    assert [site.output.call for site in sites.of_kind("layer")] == [0, 1, 2]
    for site in attention:
        assert site.residual is not None and site.layer_input is not None
        assert site.residual.call == site.layer_input.call == site.layer


def test_sublayers_in_a_list_belong_to_the_layer_around_them():
    sites = discover(build("t5").model)
    assert sites.stacks == {"encoder.block": 2, "decoder.block": 2}
    kinds = [site.kind for site in sites.layers("decoder.block")[1]]
    assert kinds == ["attention", "cross_attention", "feed_forward", "layer"]
    assert [site.kind for site in sites.layers("encoder.block")[0]] == ["attention", "feed_forward", "layer"]


class ParallelLists(nn.Module):
    """XLM's form: one list for each part of the layers, and the sums in the model itself."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, WIDTH)
        self.attentions = nn.ModuleList(Attention() for _ in range(2))
        self.norms1 = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.ffns = nn.ModuleList(feed_forward() for _ in range(2))
        self.norms2 = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))

    def forward(self, ids):
        x = self.embed(ids)
        for attention, norm1, ffn, norm2 in zip(self.attentions, self.norms1, self.ffns, self.norms2, strict=True):
            x = norm1(x + attention(x)[0])
            x = norm2(x + ffn(x))
        return x


def test_parallel_lists():
    found = [f.site for f in findings_of(ParallelLists()).sites]
    assert [(s.stack, s.layer, s.kind) for s in found] == [
        ("", 0, "attention"),
        ("", 0, "feed_forward"),
        ("", 0, "layer"),
        ("", 1, "attention"),
        ("", 1, "feed_forward"),
        ("", 1, "layer"),
    ]
    assert found[4].norm == "norms2.1"
    assert found[5].output.module == "norms2.1"


class CalledByParts(Model):
    """SqueezeBERT's form: the forward of the blocks is called, and the blocks never are."""

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block.forward(x)
        return self.norm(x)


def test_blocks_that_are_never_called():
    found = [f.site for f in findings_of(CalledByParts(PostNormBlock)).sites]
    assert [(s.stack, s.layer, s.block, s.kind) for s in found if s.kind != "layer"] == [
        ("blocks", 0, "blocks.0", "attention"),
        ("blocks", 0, "blocks.0", "feed_forward"),
        ("blocks", 1, "blocks.1", "attention"),
        ("blocks", 1, "blocks.1", "feed_forward"),
    ]
    assert all(site.layer_input is not None and site.layer_input.module.startswith(site.block) for site in found)


def test_a_bare_block_is_a_layer():
    found = [f.site for f in findings_of(Block(), torch.zeros(2, 5, WIDTH)).sites]
    assert [(s.stack, s.layer, s.block, s.kind) for s in found] == [
        ("", 0, "", "attention"),
        ("", 0, "", "feed_forward"),
        ("", 0, "", "layer"),
    ]


def test_blocks_that_are_attributes():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Block(), Block()

        def forward(self, x):
            return self.second(self.first(x))

    found = [f.site for f in findings_of(Two(), torch.zeros(2, 5, WIDTH)).sites]
    assert [(s.stack, s.layer, s.block) for s in found] == [("", 0, "first")] * 3 + [("", 1, "second")] * 3


def test_a_residual_part_before_the_layers_is_no_site():
    class PositionsFirst(Model):
        def __init__(self):
            super().__init__()
            self.positions = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)

        def forward(self, ids):
            x = self.embed(ids)
            x = x + self.positions(x.transpose(1, 2)).transpose(1, 2)
            for block in self.blocks:
                x = block(x)
            return x

    assert set(kinds_of(findings_of(PositionsFirst()))) == {"blocks.0", "blocks.1"}


def test_layers_of_different_kinds_are_one_stack():
    class FeedForwardOnly(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.mlp = nn.LayerNorm(WIDTH), feed_forward()

        def forward(self, x):
            return x + self.mlp(self.norm(x))

    class AttentionOnly(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.attn = nn.LayerNorm(WIDTH), Attention()

        def forward(self, x):
            return x + self.attn(self.norm(x))[0]

    model = Model()
    model.blocks = nn.ModuleList([AttentionOnly(), FeedForwardOnly(), AttentionOnly()])
    assert list(kinds_of(findings_of(model)).values()) == [["attention"], ["feed_forward"], ["attention"]]
