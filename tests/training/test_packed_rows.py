"""Rows in blocks are computed as alone, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from graftwork import attach
from graftwork.errors import TrainingError
from graftwork.tasks import Task, TaskSpec
from graftwork.training.encoding import Encoded, batch_of
from graftwork.training.packed_rows import check_packing
from tests.support.tiny_chat import byte_tokenizer, gpt2, llama, talker

ROWS = [{"prompt": "good " * n, "target": "yes " * (4 - n)} for n in (1, 2, 3)]


def encoded(**spec: Any) -> Encoded:
    task = Task.from_rows("t", TaskSpec(kind="generation", **spec), ROWS, ROWS)
    return Encoded(task, byte_tokenizer(), 300)


def adapted(config: Any, attention: str, method: str = "pfeiffer") -> Any:
    config._attn_implementation = attention
    model = talker(config)
    adapters = attach(model)
    adapters.add("t", method)
    adapters.add_head("t", encoded().task.head())
    adapters.active = "t"
    with torch.no_grad():
        for weight in adapters.trainable_parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return adapters


def losses(model: Any, one: Encoded) -> torch.Tensor:
    """The loss of each token that counts, over all rows."""
    batch = batch_of(model, one.task.kind, one.features(one.task.train, train=True), one.processor)
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = model(**batch).logits[:, :-1]
    return F.cross_entropy(logits.transpose(1, 2), labels[:, 1:], reduction="none")[labels[:, 1:] != -100]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("config", [llama, gpt2])
@pytest.mark.parametrize("method", ["pfeiffer", "lora"])
def test_the_loss_of_every_token_is_that_without_packing(config: Any, attention: str, method: str) -> None:
    adapters = adapted(config(), attention, method)
    blocks = encoded(packing=True)
    assert len(blocks.features(blocks.task.train, train=True)) == 1
    check_packing(adapters.model, blocks)
    torch.testing.assert_close(losses(adapters.model, blocks), losses(adapters.model, encoded()), rtol=1e-6, atol=1e-6)


def test_an_adapter_that_mixes_positions_is_refused() -> None:
    model = talker(gpt2())
    adapters = attach(model)
    adapters.add("t", "pal[size=8,heads=2]")
    adapters.add_head("t", encoded().task.head())
    adapters.active = "t"
    with pytest.raises(TrainingError, match="task 't': packing = true, and an adapter reads other positions"):
        check_packing(model, encoded(packing=True))
    check_packing(model, encoded())


def test_a_model_that_lets_one_row_see_another_is_refused() -> None:
    from transformers import MambaConfig

    sizes = {"hidden_size": 16, "vocab_size": 260, "num_hidden_layers": 1}
    model = talker(MambaConfig(**sizes, state_size=4, pad_token_id=257, eos_token_id=256, bos_token_id=256))
    attach(model, sites=())
    with pytest.raises(TrainingError, match=r"packing = true, and MambaForCausalLM .*; leave packing out"):
        check_packing(model, encoded(packing=True))
