"""Clozes: their candidates, and the ranks of what is right, against the formula written out plainly."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import graftwork as gw
from graftwork.tasks.knowledge import (
    Cloze,
    Sentences,
    Triple,
    cloze_ranks,
    clozes,
    commonest,
    scores_of_ranks,
)
from tests.support.tiny_tasks import SPECIAL, WORDS, bert, tokenizer

GRAPH = [
    Triple("Anna", "lives in", "Berlin"),
    Triple("Anna", "lives in", "Paris"),
    Triple("Bob", "lives in", "house"),
    Triple("cat", "lives in", "believable"),
    Triple("Bob", "works at", "Acme"),
    Triple("dog", "lives in", "house"),
]
SENTENCES = Sentences(t.predicate for t in GRAPH)


class Words(nn.Module):
    """A tiny masked language model."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = bert()

    def forward(self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None) -> Any:
        states = self.inner(input_ids, attention_mask, token_type_ids).last_hidden_state
        return SimpleNamespace(logits=5 * states @ self.inner.get_input_embeddings().weight.T)


def test_candidates_are_the_objects_of_the_predicate_but_for_other_right_ones() -> None:
    found = clozes(GRAPH[:1], SENTENCES, GRAPH)
    assert found == [Cloze("Anna lives in ", ".", "Berlin", ("Berlin", "house", "believable"), GRAPH[0])]
    assert clozes(GRAPH[4:5], SENTENCES, GRAPH)[0].candidates == ("Acme",)


def test_ranks_are_those_of_the_mean_log_probabilities() -> None:
    model, words = Words().eval(), tokenizer()
    asked = clozes(GRAPH, SENTENCES, GRAPH)
    expected = []
    for cloze in asked:
        scores = {}
        for name in cloze.candidates:
            tokens = words(name, add_special_tokens=False)["input_ids"]
            text = cloze.before + "[MASK] " * len(tokens) + cloze.after
            inputs = words(text, return_tensors="pt")
            with torch.no_grad():
                chances = model(**inputs).logits[0].double().log_softmax(-1)
            at = (inputs["input_ids"][0] == words.mask_token_id).nonzero().flatten().tolist()
            assert len(at) == len(tokens)
            scores[name] = sum(float(chances[p, t]) for p, t in zip(at, tokens, strict=True)) / len(at)
        better = [name for name in scores if scores[name] > scores[cloze.answer]]
        expected.append(1 + len(better))
    assert len({*expected}) > 1  # a tiny model at its start puts some first and some not
    assert len(words("believable", add_special_tokens=False)["input_ids"]) == 1
    for batch_size in (1, 64):
        assert cloze_ranks(model, asked, words, batch_size=batch_size) == expected
    assert not model.training and cloze_ranks(model, [], words) == []


def test_candidates_of_several_tokens_have_as_many_masks() -> None:
    words = tokenizer()
    asked = [Cloze("Anna is ", " .", "unbelievable", ("unbelievable", "good"), GRAPH[0])]
    seen = []

    class Sure(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None) -> Any:
            seen.extend((row == words.mask_token_id).sum().item() for row in input_ids)
            logits = torch.zeros(*input_ids.shape, len(SPECIAL) + len(WORDS))
            for token in words("unbelievable", add_special_tokens=False)["input_ids"]:
                logits[..., token] = 9.0
            return SimpleNamespace(logits=logits)

    assert cloze_ranks(Sure(), asked, words) == [1] and sorted(seen) == [1, 3]


def test_scores_of_ranks() -> None:
    found = scores_of_ranks([1, 2, 4, 1])
    assert (found.count, found.accuracy, found.mean_reciprocal_rank) == (
        4,
        0.5,
        pytest.approx((1 + 0.5 + 0.25 + 1) / 4),
    )
    assert scores_of_ranks([]).accuracy == 0.0


def test_the_commonest_object_is_said_of_every_subject() -> None:
    asked = clozes(GRAPH, SENTENCES, GRAPH)
    assert commonest(asked, GRAPH) == pytest.approx(3 / 6)  # house, house and Acme


def test_a_tokenizer_without_a_mask_is_named() -> None:
    words = tokenizer()
    words.mask_token = None
    with pytest.raises(gw.TaskError, match="need a mask"):
        cloze_ranks(Words(), clozes(GRAPH[:1], SENTENCES, GRAPH), words)
