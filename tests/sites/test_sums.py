"""Which additions are residual sums, and which look like one."""

from __future__ import annotations

import torch
from torch import nn

from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.sums import ResidualSums
from tests.support.toy_models import IDS, WIDTH, Block, Model, PostNormBlock, findings_of, kinds_of, record_of


def sums_of(model: nn.Module, *args: torch.Tensor) -> ResidualSums:
    return ResidualSums(Graph(record_of(model, *args)))


def test_pre_norm_sums_form_one_chain():
    sums = sums_of(Model(layers=3))
    assert len(sums.found) == 6
    last = sums.found[max(sums.found)]
    assert last.earlier == sorted(set(sums.found) - {last.value}, reverse=True)
    assert not any(one.inside for one in sums.found.values())


def test_post_norm_sums_are_linked_through_the_norms():
    sums = sums_of(Model(PostNormBlock))
    assert [len(one.earlier) for _, one in sorted(sums.found.items())] == [0, 1, 2, 3]


class WrittenInPlace(Block):
    def add(self, x, y, which):
        y += x
        return y


class AddedByAddcmul(Block):
    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(WIDTH))

    def add(self, x, y, which):
        return torch.addcmul(x, self.gamma, y)


def test_in_place_and_fused_additions_count():
    for block in (WrittenInPlace, AddedByAddcmul):
        assert len(sums_of(Model(block)).found) == 4, block


class Rotary(Block):
    """Rotary positions: x · cos + rotate(x) · sin adds two forms of one tensor."""

    def forward(self, x):
        angles = torch.arange(x.shape[1]).unsqueeze(-1) / 7.0
        y = self.norm1(x)
        half = torch.cat((-y[..., WIDTH // 2 :], y[..., : WIDTH // 2]), dim=-1)
        y = y * angles.cos() + half * angles.sin()
        return super().forward(x + self.attn(y)[0])


def test_rotary_embeddings_are_no_branch():
    assert len(sums_of(Model(Rotary, layers=1)).found) == 3


class LongSkip(Model):
    def forward(self, ids):
        x = start = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.norm(x + start)


def test_a_long_skip_is_no_branch():
    assert len(sums_of(LongSkip()).found) == 4


def test_positions_added_to_embeddings_are_no_branch():
    class Model2(Model):
        def forward(self, ids):
            return self.blocks[0](self.embed(ids) + self.embed(torch.arange(ids.shape[1])))

    assert len(sums_of(Model2()).found) == 2


class TwoSteps(nn.Module):
    """A feed-forward with a residual step of its own."""

    def __init__(self):
        super().__init__()
        self.outer, self.inner = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        y = self.outer(x)
        return y + self.inner(y).relu()


class Nested(Block):
    def __init__(self):
        super().__init__()
        self.mlp = TwoSteps()


def test_a_sum_inside_a_branch_is_part_of_it():
    sums = sums_of(Model(Nested, layers=1))
    assert sorted(bool(one.inside) for one in sums.found.values()) == [False, False, True]
    assert kinds_of(findings_of(Model(Nested, layers=1))) == {"blocks.0": ["attention", "feed_forward"]}


class WholeStackInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Block(), Block()])
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        y = x
        for layer in self.layers:
            y = layer(y)
        return x + self.out(y)


def test_a_stack_of_its_own_inside_a_branch_is_kept():
    kinds = kinds_of(findings_of(Model(WholeStackInside)))
    assert kinds["blocks.0.layers.0"] == ["attention", "feed_forward"]
    assert kinds["blocks.0"] == ["composite"]


class Shrinks(nn.Module):
    """A projected shortcut: the stream passes one map, the branch two."""

    def __init__(self):
        super().__init__()
        self.shortcut, self.body = (
            nn.Linear(WIDTH, WIDTH),
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)),
        )

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


def test_a_projected_stream():
    (one,) = sums_of(Model(Shrinks, layers=1)).found.values()
    assert one.projected
    (site, _) = findings_of(Model(Shrinks, layers=1)).sites
    assert site.site.extra == {"stream": "projected"}
    assert site.site.output.module == "blocks.0.body"


class Unreturned(Block):
    def forward(self, x):
        self.attn(x + self.mlp(self.norm2(x)))  # nothing comes of it
        return x + self.attn(self.norm1(x))[0]


def test_a_sum_that_its_block_never_returns_is_no_site():
    assert kinds_of(findings_of(Model(Unreturned))) == {"blocks.0": ["attention"], "blocks.1": ["attention"]}


def test_learned_queries_are_a_stream():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.queries = nn.Parameter(torch.zeros(1, 3, WIDTH))
            self.layers = nn.ModuleList([Cross(), Cross()])

        def forward(self, memory):
            x = self.queries.expand(memory.shape[0], -1, -1)
            for layer in self.layers:
                x = layer(x, memory)
            return x

    class Cross(Block):
        def forward(self, x, memory):
            x = x + self.attn(self.norm1(x), memory)[0]
            return x + self.mlp(self.norm2(x))

    kinds = kinds_of(findings_of(Decoder(), torch.zeros(2, 5, WIDTH)))
    assert kinds == {"layers.0": ["cross_attention", "feed_forward"], "layers.1": ["cross_attention", "feed_forward"]}


def test_the_first_sum_of_a_model_may_be_written_into_the_embedding():
    class InPlaceStream(Block):
        def forward(self, x):
            x += self.attn(self.norm1(x))[0]
            x += self.mlp(self.norm2(x))
            return x

    assert kinds_of(findings_of(Model(InPlaceStream), IDS)) == {
        "blocks.0": ["attention", "feed_forward"],
        "blocks.1": ["attention", "feed_forward"],
    }
