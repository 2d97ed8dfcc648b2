"""A mask that does not fit the positions that a model works on inside is made to fit, or refused: never taken for none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf

import graftwork as gw
from tests.support.attached import ids, made
from tests.zoo.registry import VOCAB

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def _longformer() -> Any:
    config = hf.LongformerConfig(vocab_size=VOCAB, max_position_embeddings=64, attention_window=[8, 8], **SIZES)
    return made(hf.LongformerModel, config)


def _speech() -> Any:
    sizes = {"conv_dim": [8, 8], "conv_kernel": [4, 3], "conv_stride": [2, 2], "num_feat_extract_layers": 2}
    config = hf.Wav2Vec2Config(
        vocab_size=20,
        num_conv_pos_embeddings=1,
        num_conv_pos_embedding_groups=1,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        **SIZES,
        **sizes,
    )
    return made(hf.Wav2Vec2Model, config)


@pytest.mark.parametrize("method", [gw.PAL(), gw.KAdapter(), gw.LoReFT()])
def test_positions_that_the_model_pads_inside(method: gw.AdapterConfig) -> None:
    model, x = _longformer(), ids(1, 5)
    adapters = gw.attach(model)
    adapters.add("a", method)
    adapters.active = "a"
    with pytest.raises(gw.CompositionError, match=r"mask is \(1, 5\) and the model works on \(1, 8\)"):
        model(input_ids=x, attention_mask=torch.ones_like(x))


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_a_head_over_padded_audio(pooling: str) -> None:
    model = gw.ModelWithHeads(_speech()).eval()
    adapters = gw.attach(model)
    adapters.add_head("h", gw.heads.Classification(labels=2, pooling=pooling))
    short = torch.randn(1, 81, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([short, torch.zeros(1, 80)], 1)
    mask = (torch.arange(161) < 81).long()[None]
    adapters.activate(None, head="h")
    alone = model(input_values=short, attention_mask=mask[:, :81]).logits
    beside = model(input_values=padded, attention_mask=mask).logits
    assert torch.allclose(alone, beside, atol=1e-5)


def test_packed_texts_are_refused() -> None:
    sizes = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 64}
    model = made(hf.LlamaModel, hf.LlamaConfig(vocab_size=VOCAB, **sizes))
    adapters = gw.attach(model)
    adapters.add("a", gw.PAL())
    adapters.add("b", gw.Pfeiffer())
    packed = {"input_ids": ids(1, 9), "position_ids": torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3]]), "use_cache": False}
    adapters.active = "a"
    with pytest.raises(gw.CompositionError, match="packed"):
        model(**packed)
    model(**{**packed, "position_ids": torch.arange(9)[None]})
    adapters.active = "b"
    model(**packed)
