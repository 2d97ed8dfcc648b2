"""Callers that sort the rows, and models that leave layers out while they train."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf

import graftwork as gw
from graftwork.errors import AttachError, CompositionError
from tests.support.attached import lively
from tests.zoo.models import build

SIDE = {"size": 24, "heads": 4, "inner": 32}


TEXTS = ["a b", "a b c d", "a b c"]


@pytest.mark.parametrize(
    "block", [gw.MixedBatch(["a", "b", None]), gw.BatchSplit("a", "b", batch_sizes=[1, 2])], ids=str
)
def test_rows_by_number_are_refused_where_encode_sorts_them(block: Any) -> None:
    model: Any = build("sentence_transformer").model
    adapters = gw.attach(model)
    for name in "ab":
        adapters.add(name, gw.Pfeiffer(bottleneck_size=4))
        lively(adapters, name, seed=ord(name))
    with torch.no_grad():
        apart = {}
        for name in ("a", "b", None):
            with adapters.using(name):
                apart[name] = model.encode(TEXTS, convert_to_tensor=True)
        adapters.active = block
        with pytest.raises(CompositionError, match="sorts the texts by their length"):
            model.encode(TEXTS)
        # in order, by the model itself, every row meets its own
        found = model(model.tokenize(TEXTS))["sentence_embedding"]
    owners = ["a", "b", None] if isinstance(block, gw.MixedBatch) else ["a", "b", "b"]
    expected = torch.stack([apart[name][row] for row, name in enumerate(owners)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_one_text_is_in_order() -> None:
    model: Any = build("sentence_transformer").model
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer(bottleneck_size=4))
    lively(adapters, "a")
    with adapters.using("a"):
        expected = model.encode("a b c")
    with adapters.using(gw.MixedBatch(["a"])):
        assert (model.encode("a b c") == expected).all()


def speech() -> Any:
    """Wav2Vec2, which asks its configuration."""
    config = hf.Wav2Vec2Config(
        vocab_size=20, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, conv_dim=[8, 8],
        conv_kernel=[4, 3], conv_stride=[2, 2], num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, layerdrop=0.5,
        num_feat_extract_layers=2, mask_time_prob=0.0,
    )  # fmt: skip
    return hf.Wav2Vec2Model(config), {"input_values": torch.randn(2, 400)}


def bart() -> Any:
    """BART, whose stacks have a probability each."""
    sizes = {f"{stack}_{name}": n for stack in ("encoder", "decoder") for name, n in _BART.items()}
    model = hf.BartModel(hf.BartConfig(vocab_size=50, d_model=16, max_position_embeddings=64, **sizes))
    return model, {"input_ids": torch.arange(4, 12).reshape(2, 4)}


_BART = {"layers": 3, "attention_heads": 2, "ffn_dim": 32, "layerdrop": 0.5}


@pytest.mark.parametrize("make", [speech, bart])
def test_hidden_states_by_number_are_refused_where_training_leaves_layers_out(make: Any) -> None:
    model, inputs = make()
    adapters = gw.attach(model)
    adapters.add("k", gw.KAdapter(**SIDE))
    adapters.add("p", gw.Pfeiffer(bottleneck_size=3))
    adapters.train_only("k")
    model.train()
    with pytest.raises(AttachError, match=r"layerdrop is 0\.5\); set model\..*layerdrop = 0\.0"):
        model(**inputs)
    with adapters.using("p"):  # reads nothing of other layers, and is left out with its own
        model(**inputs)
    model.eval()
    model(**inputs)
    for owner in (model.config, *model.modules()):  # as the message says
        for name in ("layerdrop", "encoder_layerdrop", "decoder_layerdrop"):
            if name in vars(owner):
                setattr(owner, name, 0.0)
    model.train()
    for _ in range(5):
        model(**inputs).last_hidden_state.sum().backward()


def test_a_step_in_which_every_layer_is_left_out_has_a_gradient_of_zero() -> None:
    """One of thirty steps of a model that leaves out half of its few layers would end the training."""
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in _BART.items()}
    model = hf.BartForConditionalGeneration(
        hf.BartConfig(vocab_size=50, d_model=16, max_position_embeddings=32, **sides)
    )
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer(bottleneck_size=3))
    lively(adapters, "a", size=0.05)
    adapters.train_only("a")
    model.train()
    torch.manual_seed(0)
    ids, nothing = torch.arange(4, 20).reshape(2, 8), 0
    for _ in range(30):
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        nothing += all(not p.grad.any() for p in model.parameters() if p.grad is not None)
    assert 0 < nothing < 30
