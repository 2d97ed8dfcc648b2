"""`generate`: with a cache as without, beams, rows with different adapters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import graftwork as gw
from tests.support.attached import attached, ids, lively
from tests.zoo.models import build

MODELS = ("llama_causal", "t5_generation", "bart_generation")
POOL = gw.Fuse("a", "b", name="ab")


def setup(name: str) -> tuple[Any, gw.Adapters]:
    zoo = build(name)
    zoo.model.generation_config.eos_token_id = None
    zoo.model.generation_config.forced_eos_token_id = None
    zoo.model.config.forced_eos_token_id = None
    adapters = attached(zoo)
    for n, (key, config) in enumerate({"a": gw.Pfeiffer(), "b": gw.Pfeiffer(), "h": gw.Houlsby()}.items()):
        adapters.add(key, config)
        lively(adapters, key, seed=n, size=0.5)
    adapters.add_fusion(POOL)
    lively(adapters, "ab")
    return zoo.model, adapters


def generate(model: Any, rows: Tensor, **more: Any) -> Tensor:
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 1, **more}
    return model.generate(input_ids=rows, attention_mask=torch.ones_like(rows), **options)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_with_a_cache_as_without(name: str, beams: int) -> None:
    model, adapters = setup(name)
    found = []
    for composition in (None, "a", gw.Stack("h", POOL)):
        with adapters.using(composition):
            cached = generate(model, ids(2, 4), num_beams=beams)
            assert torch.equal(cached, generate(model, ids(2, 4), num_beams=beams, use_cache=False))
        found.append(cached)
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])
    assert adapters.runtime.frame is None


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_rows_with_different_adapters(name: str, beams: int) -> None:
    model, adapters = setup(name)
    names = ["a", None, "h", "b"]
    rows = ids(4, 4)
    alone = []
    for n, adapter in enumerate(names):
        with adapters.using(adapter):
            alone.append(generate(model, rows[n : n + 1], num_beams=beams))
    expected = torch.cat(alone)
    with adapters.using(gw.MixedBatch(names)):
        assert torch.equal(generate(model, rows, num_beams=beams), expected)
    with adapters.using(gw.MixedBatch(names, beams=beams)):
        assert torch.equal(generate(model, rows, num_beams=beams, use_cache=False), expected)
    with adapters.using(gw.BatchSplit("a", None, "h", "b", batch_sizes=[1, 1, 1, 1])):
        assert torch.equal(generate(model, rows, num_beams=beams), expected)
    if beams > 1 and name == "llama_causal":
        with adapters.using(gw.MixedBatch(names)), pytest.raises(gw.CompositionError, match="beams=2"):
            generate(model, rows, num_beams=beams, use_cache=False)


@pytest.mark.parametrize("name", MODELS)
def test_several_sequences_a_row(name: str) -> None:
    model, adapters = setup(name)
    with adapters.using("b"):
        alone = generate(model, ids(2, 4)[1:], num_beams=3, num_return_sequences=2)
    with adapters.using(gw.MixedBatch(["a", "b"])):
        found = generate(model, ids(2, 4), num_beams=3, num_return_sequences=2)
    assert torch.equal(found[2:], alone)


@pytest.mark.parametrize("name", MODELS)
def test_replicate_refuses(name: str) -> None:
    model, adapters = setup(name)
    with adapters.using(gw.Replicate("a", "b")), pytest.raises(gw.CompositionError, match="cannot generate"):
        generate(model, ids(2, 4))
    assert adapters.runtime.frame is None
    with adapters.using("a"):
        generate(model, ids(2, 4))


@pytest.mark.parametrize("name", ["t5_generation", "bart_generation"])
def test_the_encoder_on_its_own(name: str) -> None:
    model, adapters = setup(name)
    encoder = model.get_encoder()
    rows, decoder = ids(3, 4), ids(3, 3, seed=1)
    with torch.no_grad(), adapters.using(gw.MixedBatch(["a", "b", "h"])):
        apart = model(encoder_outputs=encoder(input_ids=rows), decoder_input_ids=decoder).logits
        torch.testing.assert_close(apart, model(input_ids=rows, decoder_input_ids=decoder).logits)
    assert adapters.runtime.frame is None
