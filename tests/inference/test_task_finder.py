"""The task of a prompt: the nearest description by the plain base's states, and a refusal where two are as near."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf

import graftwork as gw
from graftwork.inference import TaskFinder
from graftwork.inference.task_finder import decide
from graftwork.training import text_states
from tests.support.attached import SMALL, lively, made
from tests.support.tiny_tasks import tokenizer

WORDS = {
    "hyper:pets": ["the cat sat on the mat", "a dog ran fast"],
    "hyper:people": "Anna lives in Paris",
    "hyper:films": ["not good and not bad"],
}


def finder(**how: Any) -> TaskFinder:
    size = {**SMALL, "vocab_size": 64, "hidden_dropout_prob": 0.5}
    adapters = gw.attach(made(hf.BertForSequenceClassification, hf.BertConfig(**size)))
    adapters.add("hyper", gw.HyperformerPlusPlus(tasks=("pets", "people", "films")))
    lively(adapters, "hyper")
    adapters.active = "hyper:pets"
    adapters.model.train()
    return TaskFinder(adapters, tokenizer(), WORDS, **how)


def test_similarities_are_cosines_of_the_plain_base_s_mean_states() -> None:
    here = finder()
    prompt = "the small dog sat under a mat"
    (found,) = here.find([prompt])
    rows = {name: [texts] if isinstance(texts, str) else texts for name, texts in WORDS.items()}
    states = {text: text_states(here.adapters, [text], here.tokenizer)[0] for texts in rows.values() for text in texts}
    mine = text_states(here.adapters, [prompt], here.tokenizer)[0]
    expected = {
        n: max(float(torch.cosine_similarity(mine, states[t], dim=0)) for t in texts) for n, texts in rows.items()
    }
    assert dict(found.candidates) == pytest.approx(expected, abs=1e-5)
    assert [v for _, v in found.candidates] == sorted(dict(found.candidates).values(), reverse=True)
    assert found.lead == pytest.approx(found.candidates[0][1] - found.candidates[1][1])
    assert here.adapters.model.training and here.adapters.active == "hyper:pets"  # as they were


def test_its_own_words_find_a_task_and_a_margin_refuses() -> None:
    here = finder(margin=0.0)
    for name, texts in WORDS.items():
        text = texts if isinstance(texts, str) else texts[-1]
        assert here(text) == name
    first = here.find(["a big cat"])[0]
    here.margin = first.lead + 1e-6
    assert here.find(["a big cat"])[0].name is None
    scores = ", ".join(f"{name!r} {value:.3f}" for name, value in first.candidates)
    with pytest.raises(gw.TaskError, match=rf"'a big cat' .* not clear: .*\(scores: {scores}\); say which task"):
        here("a big cat")
    here.margin, here.least = 0.0, first.candidates[0][1] + 1e-6
    assert here.find(["a big cat"])[0].name is None


def test_by_default_what_is_near_to_nothing_is_refused() -> None:
    here = finder()
    far = {"hyper:pets": 0.29, "hyper:people": 0.02, "hyper:films": 0.0}
    assert decide("?", far, here.margin, here.least).refused == "the best score is under 0.3"
    assert decide("?", {**far, "hyper:pets": 0.31}, here.margin, here.least).name == "hyper:pets"


@pytest.mark.parametrize(
    ("descriptions", "how", "error", "said"),
    [
        ({"hyper:pets": "a"}, {}, gw.ConfigError, "two tasks or more"),
        ({"hyper:pets": "a", "hyper:films": []}, {}, gw.ConfigError, "descriptions of 'hyper:films'"),
        ({"hyper:pets": "a", "hyper:film": "b"}, {}, gw.UnknownNameError, "no member of 'hyper' is called 'film'"),
        (WORDS, {"margin": -1}, gw.ConfigError, "margin is -1"),
        (WORDS, {"least": "much"}, gw.ConfigError, "least is 'much'"),
    ],
)
def test_bad_input(descriptions: Any, how: Any, error: Any, said: str) -> None:
    here = finder()
    with pytest.raises(error, match=said):
        TaskFinder(here.adapters, here.tokenizer, descriptions, **how)
