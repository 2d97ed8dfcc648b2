"""A module that is called several times in one forward pass has one set of adapters, which works in every call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from tests.support.attached import ids, lively, made
from tests.zoo.registry import VOCAB

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def _bert(**more: Any) -> Any:
    from transformers import BertConfig, BertModel

    return made(BertModel, BertConfig(vocab_size=VOCAB, max_position_embeddings=32, **SIZES, **more))


def _albert(**more: Any) -> Any:
    from transformers import AlbertConfig, AlbertModel

    config = AlbertConfig(vocab_size=VOCAB, embedding_size=8, max_position_embeddings=32, **SIZES, **more)
    return made(AlbertModel, config)


def _distilbert(**more: Any) -> Any:
    from transformers import DistilBertConfig, DistilBertModel

    config = DistilBertConfig(vocab_size=VOCAB, dim=16, n_layers=2, n_heads=2, hidden_dim=32, **more)
    return made(DistilBertModel, config)


class Texts(nn.Module):
    """One encoder for as many texts as are given, as a scorer of pairs or a reader of long documents has it."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, *texts: Tensor) -> Tensor:
        return torch.stack([self.encoder(input_ids=text).last_hidden_state.mean(1) for text in texts])


METHODS = {
    "pfeiffer": gw.Pfeiffer(bottleneck_size=3),
    "houlsby": gw.Houlsby(bottleneck_size=3),
    "bapna_firat": gw.BapnaFirat(bottleneck_size=3),
    "pal": gw.PAL(),
    "k_adapter": gw.KAdapter(),
    "loreft": gw.LoReFT(first=2, last=1),
}


@pytest.mark.parametrize("build", [_bert, _albert], ids=["bert", "albert"])
@pytest.mark.parametrize("traced", [1, 2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_one_encoder_for_several_texts(build: Any, traced: int, method: str) -> None:
    encoder = build()
    alone = gw.attach(build())
    model = Texts(encoder).eval()
    adapters = gw.attach(model, example_inputs=tuple(ids(2, 6) for _ in range(traced)))
    adapters.add("a", METHODS[method])
    alone.add("a", METHODS[method])
    assert [key.removeprefix("encoder.") for key in adapters.modules_of("a")] == list(alone.modules_of("a"))
    lively(adapters, "a")
    x = ids(2, 6)
    plain = model(x, x, x)
    adapters.active = "a"
    first, *others = model(x, x, x)
    assert not torch.allclose(first, plain[0], atol=1e-2)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("build", [_bert, _albert, _distilbert], ids=["bert", "albert", "distilbert"])
def test_a_feed_forward_in_pieces(build: Any, method: str) -> None:
    """`chunk_size_feed_forward` saves memory, and changes no result: set at load or later."""
    outputs = []
    for at_load, later in ((0, 0), (3, 3), (0, 3)):
        model = build(chunk_size_feed_forward=at_load).double()
        adapters = gw.attach(model)
        torch.manual_seed(0)
        adapters.add("a", METHODS[method])
        lively(adapters, "a")
        adapters.active = "a"
        for module in model.modules():
            if hasattr(module, "chunk_size_feed_forward"):
                module.chunk_size_feed_forward = later
        try:
            outputs.append(model(input_ids=ids(2, 6)).last_hidden_state)
        except gw.AttachError as error:
            assert later and "chunk_size_feed_forward" in str(error)  # refused by name
            outputs.append(outputs[0])
    assert all(torch.allclose(outputs[0], other, atol=1e-8) for other in outputs[1:])


def test_layers_that_share_their_weights_stay_apart() -> None:
    """One block called once a layer, each call fed by the one before: adapters are told apart by the layer's number."""
    adapters = gw.attach(_albert())
    assert set(adapters.sites.stacks.values()) == {2}
    adapters.add("a", gw.Pfeiffer(bottleneck_size=3))
    assert len(adapters.modules_of("a")) == 2
