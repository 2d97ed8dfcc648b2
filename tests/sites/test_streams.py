"""Streams that are not simply added to: highways, learned queries, series without their moving average."""

from __future__ import annotations

import torch
from torch import nn

from tests.support.toy_models import WIDTH, Attention, Block, Model, feed_forward, findings_of, kinds_of


class Gate(nn.Module):
    """As in D-FINE: both the stream and the branch are scaled, by gates made of them."""

    def __init__(self):
        super().__init__()
        self.gate, self.norm = nn.Linear(2 * WIDTH, 2 * WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x, y):
        one, other = self.gate(torch.cat([x, y], dim=-1)).sigmoid().chunk(2, dim=-1)
        return self.norm(one * x + other * y)


class Highway(Block):
    swapped = False

    def __init__(self):
        super().__init__()
        self.cross, self.gateway = Attention(), Gate()

    def forward(self, x):
        x = self.norm1(x + self.attn(x)[0])
        y = self.cross(x)[0]
        x = self.gateway(y, x) if self.swapped else self.gateway(x, y)
        return self.norm2(x + self.mlp(x))


class SwappedHighway(Highway):
    swapped = True


def test_a_branch_that_a_gate_mixes_with_the_stream_is_a_site():
    for block in (Highway, SwappedHighway):
        findings = findings_of(Model(block))
        assert kinds_of(findings) == {f"blocks.{i}": ["attention", "attention", "feed_forward"] for i in range(2)}
        gated = findings.sites[1].site
        assert str(gated.output) == "blocks.0.cross.output[0]"
        assert gated.extra["factor"] == "computed"
        assert gated.norm == "blocks.0.gateway.norm"
        assert str(gated.residual) in ("blocks.0.cross.input", "blocks.0.cross.input[0]")


class Resampler(nn.Module):
    """Learned latents that attend to what the model is given, as in Flamingo."""

    def __init__(self):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(3, WIDTH))
        self.embed = nn.Embedding(11, WIDTH)
        self.layers = nn.ModuleList(nn.ModuleList([Latents(), feed_forward()]) for _ in range(2))

    def forward(self, ids):
        x = self.embed(ids)
        latents = self.latents[None].repeat(x.shape[0], 1, 1)
        for attention, mlp in self.layers:
            latents = attention(x, latents) + latents
            latents = mlp(latents) + latents
        return latents


class Latents(Attention):
    def forward(self, x, latents):
        scores = (self.query(latents) @ self.key(x).transpose(-1, -2)).softmax(-1)
        return self.out(scores @ self.value(x))


def test_learned_latents_are_a_stream_from_the_first_layer_on():
    kinds = kinds_of(findings_of(Resampler()))
    assert {block: found[-1] for block, found in kinds.items()} == {
        "layers.0": "feed_forward",
        "layers.1": "feed_forward",
    }
    assert all(len(found) == 2 and "attention" in found[0] for found in kinds.values())


class Decomposition(Block):
    """As in Autoformer: the block keeps what is left without a moving average, and adds the averages up."""

    def __init__(self):
        super().__init__()
        self.cross, self.trend = Attention(), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x, one = self.decompose(x + self.attn(x)[0])
        x, two = self.decompose(x + self.cross(x)[0])
        x = self.norm1(x)
        x, three = self.decompose(x + self.mlp(x))
        return self.norm2(x), self.trend(one + two + three)

    def decompose(self, x):
        padded = torch.cat([x[:, :1], x, x[:, -1:]], dim=1)
        average = nn.functional.avg_pool1d(padded.transpose(1, 2), 3, 1).transpose(1, 2)
        return x - average, average


class Series(Model):
    def forward(self, ids):
        x, total = self.embed(ids), 0
        for block in self.blocks:
            x, trend = block(x)
            total = total + trend
        return self.norm(x) + total


def test_a_moving_average_is_no_branch_and_trends_are_no_stream():
    assert kinds_of(findings_of(Series(Decomposition))) == {
        f"blocks.{i}": ["attention", "attention", "feed_forward"] for i in range(2)
    }
