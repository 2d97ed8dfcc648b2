"""Where hooks sit: exact taps, norms, scales and layouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from graftwork.sites import Site, Tap, discover
from tests.support.toy_models import WIDTH, Block, Model, PostNormBlock, findings_of
from tests.zoo.models import ZooModel, build


def sites_of(block: type[nn.Module]) -> dict[str, Site]:
    return {f.site.name: f.site for f in findings_of(Model(block, layers=1)).sites}


def slot_of(zoo: ZooModel, path: str) -> int | None:
    """Where a module of the installed transformers returns its stream: alone, or first in a tuple."""
    returned: list[Any] = []
    with zoo.model.get_submodule(path).register_forward_hook(lambda *call: returned.append(call[-1])), torch.no_grad():
        zoo.model(**zoo.inputs)
    assert isinstance(returned[0], torch.Tensor | tuple)
    return 0 if isinstance(returned[0], tuple) else None


def test_bert_exactly():
    zoo = build("bert")
    sites = discover(zoo.model)
    here = "encoder.layer.1"
    attention, feed_forward, layer = (sites[f"{here}.{kind}"] for kind in ("attention", "feed_forward", "layer"))
    entering = Tap(f"{here}.attention", "input", 0)
    stream = Tap(f"{here}.attention.output", "input", 1)
    assert attention == Site(
        stack="encoder.layer",
        layer=1,
        kind="attention",
        block=here,
        output=Tap(f"{here}.attention.output.dropout", "output"),
        width=32,
        residual=stream,
        input=stream,
        layer_input=entering,
        norm=f"{here}.attention.output.LayerNorm",
    )
    stream = Tap(f"{here}.output", "input", 1)
    assert feed_forward == Site(
        stack="encoder.layer",
        layer=1,
        kind="feed_forward",
        block=here,
        output=Tap(f"{here}.output.dropout", "output"),
        width=32,
        residual=stream,
        input=stream,
        layer_input=entering,
        norm=f"{here}.output.LayerNorm",
    )
    assert layer == Site(
        stack="encoder.layer",
        layer=1,
        kind="layer",
        block=here,
        output=Tap(here, "output", slot_of(zoo, here)),
        width=32,
        residual=entering,
        input=entering,
        layer_input=entering,
    )


def test_llama_exactly():
    sites = discover(build("llama_causal").model)
    assert sites.prefix == "model."
    here = "model.layers.1"
    entering = Tap(f"{here}.input_layernorm", "input", 0)
    assert sites["layers.1.attention"] == Site(
        stack="model.layers",
        layer=1,
        kind="attention",
        block=here,
        output=Tap(f"{here}.self_attn", "output", 0),
        width=32,
        residual=entering,
        input=Tap(f"{here}.input_layernorm", "output"),
        layer_input=entering,
    )
    assert sites["layers.1.feed_forward"] == Site(
        stack="model.layers",
        layer=1,
        kind="feed_forward",
        block=here,
        output=Tap(f"{here}.mlp", "output"),
        width=32,
        residual=Tap(f"{here}.post_attention_layernorm", "input", 0),
        input=Tap(f"{here}.post_attention_layernorm", "output"),
        layer_input=entering,
    )
    assert sites["layers.1.output_projection"].output == Tap("lm_head", "input", 0)
    assert sites["layers.0.embedding"].output == Tap("model.embed_tokens", "output")


def test_gemma_s_branch_ends_in_its_own_norm():
    site = discover(build("gemma3").model)["layers.0.attention"]
    assert site.output == Tap("layers.0.post_attention_layernorm", "output")
    assert site.input == Tap("layers.0.input_layernorm", "output")
    assert site.norm is None


def test_swin_taps_behind_the_windows():
    zoo = build("swin")
    for site in discover(zoo.model).of_kind("attention"):
        assert "layout" not in site.extra
        assert site.output.module.endswith("drop_path")


def test_the_outermost_module_is_tapped():
    assert sites_of(Block)["attention"].output == Tap("blocks.0.attn", "output", 0)
    assert sites_of(Block)["feed_forward"].output == Tap("blocks.0.mlp", "output")


def test_keyword_arguments_are_slots():
    class ByKeyword(Block):
        def forward(self, x):
            y = self.attn(x=x)[0]
            return x + y

    site = sites_of(ByKeyword)["attention"]
    assert site.residual is not None
    assert (
        site.residual.slot == "x"
    )  # not where `x` goes on into the projections: they may run on a part of the positions
    assert site.layer_input == Tap("blocks.0.attn", "input", "x")


def test_post_norm_is_the_sum_s_only_reader():
    sites = sites_of(PostNormBlock)
    assert (sites["attention"].norm, sites["feed_forward"].norm) == ("blocks.0.norm1", "blocks.0.norm2")
    assert sites["attention"].input == sites["attention"].residual


class NormAtTheEnd(Block):
    """Pre-norm, with a norm of the whole at the end of the block, that the un-normed stream goes past."""

    def __init__(self):
        super().__init__()
        self.last = nn.LayerNorm(WIDTH)

    def forward(self, x):
        x = super().forward(x)
        return x + self.last(x)


def test_a_norm_that_the_stream_goes_past_is_no_post_norm():
    assert [site.norm for site in sites_of(NormAtTheEnd).values()] == [None] * 3
    assert [site.norm for site in sites_of(Block).values()] == [None] * 3


class Half(Block):
    def add(self, x, y, which):
        return x + 0.5 * y if which else torch.add(x, y / 4, alpha=2)


class LayerScale(Block):
    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((WIDTH,), 0.1))

    def add(self, x, y, which):
        return x + self.gamma.unsqueeze(0) * y if which else torch.addcmul(x, self.gamma, y)


class ScaledInside(Block):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.1)

    def add(self, x, y, which):
        return x + self.drop(y * 0.5)


class Gated(Block):
    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(1))

    def add(self, x, y, which):
        return x + self.gate.tanh() * y


class Subtracted(Block):
    def add(self, x, y, which):
        return x - y


@pytest.mark.parametrize(
    ("block", "scales", "extra"),
    [
        (Half, (0.5, 0.5), {}),
        (ScaledInside, (None, None), {}),
        (Subtracted, (-1.0, -1.0), {}),
        (Gated, (None, None), {"factor": "computed"}),
    ],
)
def test_scales(block, scales, extra):
    sites = sites_of(block)
    assert (sites["attention"].scale, sites["feed_forward"].scale) == scales
    assert sites["attention"].extra == sites["feed_forward"].extra == extra


def test_a_parameter_s_path_is_a_scale():
    sites = sites_of(LayerScale)
    assert sites["attention"].scale == sites["feed_forward"].scale == "blocks.0.gamma"


def test_a_bare_norm_is_seen_where_its_result_goes():
    class Bare(Block):
        def forward(self, x):
            return x + self.mlp(nn.functional.layer_norm(x, (WIDTH,)))

    assert sites_of(Bare)["feed_forward"].input == Tap("blocks.0.mlp", "input", 0)


def test_a_branch_that_several_parts_carry():
    class ConcatNode(Block):
        def forward(self, x):
            y = self.attn(self.norm1(x))[0]
            return x + torch.cat((y[:, :1], y[:, 1:]), dim=1)

    site = sites_of(ConcatNode)["attention"]
    assert site.output == Tap("blocks.0.attn", "output", 0)
    assert site.extra == {"layout": "differs"}


def test_channels_first():
    class Image(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, WIDTH, 1)
            self.blocks = nn.ModuleList([ConvBlock(), ConvBlock()])

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return x

    class ConvBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

        def forward(self, x):
            return x + self.conv(x).relu() + self.conv(x)

    for f in findings_of(Image(), torch.zeros(1, 3, 5, 6)).sites:
        assert (f.site.width, f.site.extra.get("channels")) == (WIDTH, 1)
