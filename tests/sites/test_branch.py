"""What a branch does: its kind, from the operations in it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.toy_models import WIDTH, Block, Model, feed_forward, findings_of, kinds_of


class OneBranch(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.branch = nn.LayerNorm(WIDTH), self.make()

    def forward(self, x):
        return x + self.branch(self.norm(x))


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return self.out(nn.functional.scaled_dot_product_attention(*self.qkv(x).chunk(3, dim=-1)))


class TorchAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x)[0]


class Linear(nn.Module):
    """Attention without softmax."""

    def __init__(self):
        super().__init__()
        self.key = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return x @ (self.key(x).transpose(-1, -2) @ x)


class Fourier(nn.Module):
    def forward(self, x):
        return torch.fft.fftn(x, dim=(1, 2)).real


class Convolution(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.inner = nn.Conv1d(WIDTH, WIDTH, size, padding=size // 2)

    def forward(self, x):
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


class PassesThrough(nn.Module):
    """No known operation; only its name tells."""

    def __init__(self):
        super().__init__()
        self.SomeAttention = type("SomeAttention", (nn.Linear,), {})(WIDTH, WIDTH)

    def forward(self, x):
        return self.SomeAttention(x)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (Fused, "attention"),
        (TorchAttention, "attention"),
        (feed_forward, "feed_forward"),
        (Linear, "mixer"),
        (Fourier, "mixer"),
        (lambda: Convolution(3), "mixer"),
        (lambda: Convolution(1), "feed_forward"),
        (PassesThrough, "attention"),
    ],
)
def test_kinds(make, kind):
    block = type("Made", (OneBranch,), {"make": staticmethod(make)})
    assert kinds_of(findings_of(Model(block, layers=1))) == {"blocks.0": [kind]}


def test_an_activation_with_a_skip_is_no_branch():
    class Snake(Block):
        def forward(self, x):
            x = super().forward(x)
            return x + x.sin() ** 2

    assert kinds_of(findings_of(Model(Snake, layers=1))) == {"blocks.0": ["attention", "feed_forward"]}


def test_a_convolution_inside_the_only_feed_forward_of_a_layer():
    class MixFeedForward(Block):
        def __init__(self):
            super().__init__()
            self.mlp = Convolution(3)

    assert kinds_of(findings_of(Model(MixFeedForward, layers=1))) == {"blocks.0": ["attention", "feed_forward"]}


class Parallel(Block):
    def forward(self, x):
        return x + self.attn(self.norm1(x))[0] + self.mlp(self.norm1(x))


class ParallelSummedFirst(Block):
    def forward(self, x):
        y = self.attn(self.norm1(x))[0] + self.mlp(self.norm2(x))
        return y + x


class ParallelInPlace(Block):
    def forward(self, x):
        y = self.mlp(self.norm2(x))
        y += self.attn(self.norm1(x))[0]
        return x + nn.functional.dropout(y, 0.1, self.training)


@pytest.mark.parametrize("block", [Parallel, ParallelSummedFirst, ParallelInPlace])
def test_parallel_attention_and_feed_forward_are_two_sites(block):
    found = [f.site for f in findings_of(Model(block, layers=1)).sites if f.site.kind != "layer"]
    assert {site.kind: site.output.module for site in found} == {
        "attention": "blocks.0.attn",
        "feed_forward": "blocks.0.mlp",
    }
    assert all(str(site.residual).startswith("blocks.0.norm") for site in found)


def test_two_experts_added_in_a_module_of_their_own_are_one_site():
    class TwoPaths(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = feed_forward(), feed_forward()

        def forward(self, x):
            return self.one(x) + self.other(x)

    class Mixture(Block):
        def __init__(self):
            super().__init__()
            self.mlp = TwoPaths()

    found = [f.site for f in findings_of(Model(Mixture, layers=1)).sites if f.site.kind == "feed_forward"]
    assert [site.output.module for site in found] == ["blocks.0.mlp"]
