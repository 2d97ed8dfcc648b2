"""Half a model is an error that names the blocks and the way out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graftwork.errors import SiteError
from graftwork.sites import discover
from tests.support.toy_models import IDS, Attention, Block, Model, feed_forward


def test_no_residual_sums():
    with pytest.raises(SiteError, match=r"(?s)no residual sums were found in a Sequential: .*gw.Site\("):
        discover(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), (torch.zeros(1, 2),))


class AddsNothing(Block):
    """Attention that takes the place of the stream."""

    def forward(self, x):
        return self.attn(self.norm1(x))[0]


def test_attention_without_a_site():
    model = Model(layers=3)
    model.blocks[1] = AddsNothing()
    with pytest.raises(SiteError, match=r"blocks\.1: ran attention \(in blocks\.1\.attn\) that no site covers"):
        discover(model, (IDS,))


class LosesAttention(Block):
    """A second attention takes the place of the stream, in a block that has sites all the same."""

    def __init__(self):
        super().__init__()
        self.cross = Attention()

    def forward(self, x):
        x = x + self.attn(self.norm1(x))[0]
        x = self.cross(x)[0]
        return x + self.mlp(self.norm2(x))


class LosesFeedForward(LosesAttention):
    def __init__(self):
        super().__init__()
        self.cross = feed_forward()

    def forward(self, x):
        x = x + self.attn(self.norm1(x))[0]
        x = self.cross(x)
        return x + self.mlp(self.norm2(x))


@pytest.mark.parametrize(
    ("block", "what", "where"),
    [(LosesAttention, "attention", "cross"), (LosesFeedForward, "a feed-forward", "cross.2")],
)
def test_an_operation_without_a_site_in_a_block_that_has_others(block, what, where):
    with pytest.raises(SiteError, match=rf"blocks\.0: ran {what} \(in blocks\.0\.{where}\) that no site covers"):
        discover(Model(block), (IDS,))


class Sometimes(Block):
    adds = True

    def forward(self, x):
        x = x + self.attn(self.norm1(x))[0]
        y = self.mlp(self.norm2(x))
        return x + y if self.adds else x


def test_a_block_that_lacks_what_its_like_has():
    model = Model(Sometimes, layers=3)
    model.blocks[2].adds = False
    with pytest.raises(SiteError, match=r"blocks\.2: lacks feed_forward, which blocks\.0"):
        discover(model, (IDS,))


class Replaces(Block):
    """One of its kind adds to the stream, the others take its place."""

    adds = True

    def forward(self, x):
        y = self.mlp(self.norm2(x))
        return x + y if self.adds else y


def test_a_block_without_sites_among_its_like():
    model = Model(Replaces, layers=3)
    model.blocks[1].adds = False
    with pytest.raises(SiteError, match=r"blocks\.1: lacks feed_forward, which blocks\.0"):
        discover(model, (IDS,))


class Functional(Block):
    """The branch is computed in the block's own forward."""

    def forward(self, x):
        x = x + self.attn(self.norm1(x))[0]
        return x + torch.tanh(self.norm2(x) @ self.mlp[0].weight.T) @ self.mlp[2].weight.T


def test_a_branch_that_no_module_returns():
    with pytest.raises(SiteError, match=r"(?s)blocks\.0: the feed_forward branch is returned by no .*sites_from_paths"):
        discover(Model(Functional), (IDS,))


def test_a_model_that_cannot_be_run_names_both_causes():
    class Fails(Model):
        def forward(self, ids):
            raise RuntimeError("needs a licence")

    with pytest.raises(SiteError) as caught:
        discover(Fails(), {"ids": IDS})
    message = str(caught.value)
    assert "on fake tensors, the model(ids=[2, 5] int64): RuntimeError: needs a licence" in message
    assert "for real, the model(ids=[2, 5] int64): RuntimeError: needs a licence" in message
    assert "example_inputs=" in message
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_inputs_that_cannot_be_made():
    with pytest.raises(SiteError, match=r"no inputs can be made for a Model.*example_inputs="):
        discover(Model())


class Excites(Block):
    """Squeeze-and-excitation: what its maps make of the mean is a factor at every position, and added to nothing."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Sequential(feed_forward(), nn.Sigmoid())

    def forward(self, x):
        x = x * self.gate(x.mean(1, keepdim=True))
        return super().forward(x)


def test_a_factor_at_all_positions_is_no_feed_forward():
    model = Model(layers=2)
    model.blocks[0], model.blocks[1] = Excites(), Excites()
    assert {site.kind for site in discover(model, (IDS,))} == {"attention", "feed_forward", "layer"}
