"""Whoever reads what a module returns sees it with the adapters' additions, whenever their hook was put there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import graftwork as gw
from tests.support.attached import bert_classifier, ids, lively, made
from tests.zoo.registry import VOCAB


def _bert() -> Any:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return made(BertModel, BertConfig(vocab_size=VOCAB, max_position_embeddings=32, **sizes))


@pytest.mark.parametrize("config", [gw.BapnaFirat(bottleneck_size=3), gw.Pfeiffer(bottleneck_size=3)])
def test_hidden_states_asked_for_before_attaching(config: gw.AdapterConfig) -> None:
    model, x = _bert(), ids(2, 6)
    model(input_ids=x, output_hidden_states=True)  # transformers leaves its own hooks on the layers
    adapters = gw.attach(model)
    adapters.add("a", config)
    lively(adapters, "a")
    adapters.active = "a"
    output = model(input_ids=x, output_hidden_states=True)
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)


def test_a_users_own_hook_sees_the_addition() -> None:
    model, seen = _bert(), []

    def look(module: Any, args: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    model.encoder.layer[-1].register_forward_hook(look)
    adapters = gw.attach(model)
    adapters.add("a", gw.BapnaFirat(bottleneck_size=3))
    lively(adapters, "a")
    adapters.active = "a"
    output = model(input_ids=ids(2, 6))
    assert torch.equal(seen[-1], output.last_hidden_state)


def _classifier() -> tuple[Any, Any, Tensor]:
    model = bert_classifier(labels=2)
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer(bottleneck_size=3))
    adapters.add_head("a", 3)
    adapters.active = "a"
    return model, adapters, ids(2, 6)


def test_a_head_called_outside_the_models_forward_is_refused() -> None:
    model, adapters, x = _classifier()
    assert model(input_ids=x).logits.shape == (2, 3)
    with pytest.raises(gw.AttachError, match="outside the model's forward"):
        model.forward(input_ids=x)
    with pytest.raises(gw.AttachError, match="outside the model's forward"):
        model.classifier(model.bert(input_ids=x).pooler_output)
    with adapters.using(None):
        assert model.forward(input_ids=x).logits.shape == (2, 2)
