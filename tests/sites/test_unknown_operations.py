"""Operations that nobody has listed, such as the products of quantised layers, hide no branch and no kind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graftwork.sites import SiteMap, discover
from graftwork.sites.discovery import ops
from tests.support.quantised_models import MODELS, WAYS
from tests.support.toy_models import Attention, Block, Model, findings_of, kinds_of


def of_branches(sites: SiteMap) -> list[tuple[object, ...]]:
    return [(s.key, s.kind, s.output, s.input, s.residual, s.norm, s.scale, s.width, dict(s.extra)) for s in sites]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_a_quantised_model_has_the_sites_of_the_full_one(name: str, way: str):
    expected = discover(MODELS[name]())
    assert {"attention", "feed_forward"} <= set(expected.kinds)
    assert of_branches(discover(WAYS[way](MODELS[name]()))) == of_branches(expected)


@torch.library.custom_op("graftwork_tests::softmax_of_ours", mutates_args=())
def softmax_of_ours(scores: Tensor) -> Tensor:
    return scores.softmax(-1)


@softmax_of_ours.register_fake
def _(scores: Tensor) -> Tensor:
    return torch.empty_like(scores)


@torch.library.custom_op("graftwork_tests::flash_attention", mutates_args=())
def flash_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-1, -2)).softmax(-1) @ value


@flash_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.empty_like(query)


@torch.library.custom_op("graftwork_tests::scan", mutates_args=())
def scan(x: Tensor, step: Tensor, gate: Tensor) -> Tensor:
    return (x * step).cumsum(1) * gate


@scan.register_fake
def _(x: Tensor, step: Tensor, gate: Tensor) -> Tensor:
    return torch.empty_like(x)


class OwnSoftmax(Attention):
    def forward(self, x, memory=None):
        scores = softmax_of_ours(self.query(x) @ self.key(x).transpose(-1, -2))
        return self.out(scores @ self.value(x)), scores


class Kernel(Attention):
    def forward(self, x, memory=None):
        y = flash_attention(self.query(x), self.key(x), self.value(x))
        return self.out(y), y


class Mixer(Attention):
    def forward(self, x, memory=None):
        y = scan(self.query(x), self.key(x), self.value(x))
        return self.out(y), y


@pytest.mark.parametrize(("make", "kind"), [(OwnSoftmax, "attention"), (Kernel, "attention"), (Mixer, "mixer")])
def test_kernels_of_extensions_have_their_kind(make: type[nn.Module], kind: str):
    model = Model()
    for block in model.blocks:
        block.attn = make()
    assert kinds_of(findings_of(model)) == {f"blocks.{i}": [kind, "feed_forward"] for i in range(2)}


class Squares(Block):
    def __init__(self):
        super().__init__()
        self.mlp = nn.Identity()

    def forward(self, x):
        x = x + self.attn(self.norm1(x))[0]
        return x + nn.functional.hardswish(self.mlp(x)).sin() ** 2


def test_activations_without_weights_are_no_feed_forward():
    assert kinds_of(findings_of(Model(Squares))) == {f"blocks.{i}": ["attention"] for i in range(2)}


@pytest.mark.parametrize("name", ["silu", "gelu", "hardswish", "rsqrt", "mean", "layer_norm", "view", "softmax"])
def test_operations_known_to_have_no_weights(name: str):
    assert not ops.is_weighted(name)


@pytest.mark.parametrize("name", ["linear", "quantized::linear_dynamic", "bitsandbytes::gemv_4bit", "some::view"])
def test_all_others_count_as_weighted(name: str):
    assert ops.is_weighted(name)
