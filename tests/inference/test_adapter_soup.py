"""AdapterSoup: the adapters of the nearest domains are found from the plain base's states, and averaged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf

import graftwork as gw
from graftwork.inference import nearest, similarities, soup
from graftwork.training import text_states
from tests.support.attached import SMALL, lively, made
from tests.support.tiny_tasks import tokenizer

DOMAINS = {
    "pets": ["the cat sat on the mat", "a dog ran fast", "the small dog sat under a mat"],
    "people": ["Anna lives in Paris", "Bob works at Acme", "who works in Berlin ?"],
    "films": ["a good film", "bad play", "not good and not bad"],
}
TARGET = ["the big cat ran", "a cat and a dog sat"]


def setup(model: Any = None) -> gw.Adapters:
    size = {**SMALL, "vocab_size": 64, "hidden_dropout_prob": 0.5}
    model = made(hf.BertForSequenceClassification, hf.BertConfig(**size)) if model is None else model
    adapters = gw.attach(model)
    for n, name in enumerate(DOMAINS):
        adapters.add(name, gw.Pfeiffer(reduction_factor=4))
        lively(adapters, name, seed=n)
    return adapters


def test_a_soup_is_the_average_of_the_nearest() -> None:
    adapters = setup()
    made_ = soup(adapters, "new", DOMAINS, TARGET, tokenizer(), k=2)
    assert made_.chosen[0] == "pets"
    assert len(made_.chosen) == 2
    assert list(made_.similarity.values()) == sorted(made_.similarity.values(), reverse=True)
    adapters.merge("by hand", made_.chosen)
    for key, module in adapters.modules_of("new").items():
        pairs = zip(module.parameters(), adapters.modules_of("by hand")[key].parameters(), strict=True)
        assert all(torch.equal(p, q) for p, q in pairs)
    assert "(chosen)" in str(made_)
    one = soup(adapters, "one", DOMAINS, TARGET, tokenizer(), k=1)
    assert dict(one.merged.weights) == {"pets": 1.0}


def test_states_are_the_plain_base_s_whatever_is_active_and_training() -> None:
    adapters = setup()
    tokens = tokenizer()
    adapters.model.eval()
    plain = []
    for text in TARGET:  # each text alone: no padding
        states = adapters.model.bert(**tokens([text], return_tensors="pt")).last_hidden_state
        plain.append(states[0].mean(0).detach())
    adapters.train_only("pets")
    adapters.model.train()
    found = text_states(adapters, TARGET, tokens)
    torch.testing.assert_close(found, torch.stack(plain), rtol=1e-4, atol=1e-5)
    assert adapters.model.training
    assert adapters.active == "pets"
    torch.testing.assert_close(text_states(adapters, TARGET, tokens, batch_size=1), found, rtol=1e-4, atol=1e-5)


def test_an_encoder_decoder_gives_its_encoder_s_states() -> None:
    config = hf.T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, pad_token_id=0, decoder_start_token_id=0
    )
    adapters = setup(gw.ModelWithHeads(made(hf.T5ForConditionalGeneration, config)))
    tokens = tokenizer()
    tokens.model_input_names = ["input_ids", "attention_mask"]
    assert text_states(adapters, TARGET, tokens).shape == (2, 16)


def test_similarity_is_the_mean_cosine_over_pairs() -> None:
    draw = torch.Generator().manual_seed(0)
    features = {name: torch.randn(3 + n, 5, generator=draw) for n, name in enumerate("abc")}
    target = torch.randn(4, 5, generator=draw)
    found = similarities(features, target)
    for name, rows in features.items():
        pairs = [torch.cosine_similarity(x, t, dim=0) for x in rows.double() for t in target.double()]
        assert found[name] == pytest.approx(float(torch.stack(pairs).mean()))


def test_how_many_and_how_near() -> None:
    near = {"a": 0.2, "b": 0.9, "c": -0.1}
    assert nearest(near, 2) == ("b", "a")
    assert nearest(near, 9) == ("b", "a", "c")
    assert nearest(near, 3, least=0.1) == ("b", "a")
    with pytest.raises(gw.ConfigError, match=r"least=0\.95: b 0\.900"):
        nearest(near, 3, least=0.95)
    for k in (0, 1.5, True):
        with pytest.raises(gw.ConfigError, match="1 or more"):
            nearest(near, k)  # type: ignore[arg-type]


def test_bad_input_is_refused() -> None:
    adapters, tokens = setup(), tokenizer()
    with pytest.raises(gw.UnknownNameError, match="nobody"):
        soup(adapters, "new", {"nobody": ["a"]}, TARGET, tokens)
    for texts in ([], "a text"):
        with pytest.raises(gw.ConfigError, match="one text or more"):
            soup(adapters, "new", DOMAINS, texts, tokens)
    tokens.pad_token = None
    with pytest.raises(gw.ConfigError, match="no pad_token"):
        soup(adapters, "new", DOMAINS, TARGET, tokens)
    assert adapters.names == tuple(DOMAINS)
