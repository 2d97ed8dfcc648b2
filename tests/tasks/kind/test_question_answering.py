"""Answers as parts of a context: windows, labels in them, and the way back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from graftwork.errors import TaskError
from graftwork.tasks import Task, TaskSpec
from tests.support.tiny_tasks import SURE, WORDS, perfect, tokenizer

TOKENIZER = tokenizer()
PLAIN = [word for word in WORDS if word.isalpha()]


def made(rows: list[dict[str, Any]], **spec: Any) -> Task:
    return Task.from_rows("qa", TaskSpec(kind="question_answering", **spec), rows, rows)


def row(question: str, context: str, answer: str, start: int | None = None) -> dict[str, Any]:
    at = context.index(answer) if start is None else start
    return {"question": question, "context": context, "answers": {"text": [answer], "answer_start": [at]}}


@given(
    words=st.lists(st.sampled_from(PLAIN), min_size=1, max_size=40),
    data=st.data(),
    limit=st.integers(10, 20),
    stride=st.integers(0, 12),
)
def test_every_answer_is_found_again_however_the_context_is_cut(
    words: list[str], data: st.DataObject, limit: int, stride: int
) -> None:
    first = data.draw(st.integers(0, len(words) - 1))
    last = min(data.draw(st.integers(first, first + 1)), len(words) - 1)
    context, answer = " ".join(words), " ".join(words[first : last + 1])
    start = len(" ".join(words[:first])) + (first > 0)
    task = made([row("who ?", context, answer, start)], stride=stride)
    features = task.features(task.train, TOKENIZER, max_length=limit)
    assert all(len(feature["input_ids"]) <= limit for feature in features)
    labelled = [feature for feature in features if feature["labels"] != [0, 0]]
    for feature in labelled:
        (begin, _), (_, end) = (feature["offsets"][at] for at in feature["labels"])
        assert (begin, end) == (start, start + len(answer))
    # an answer of two words may lie across two windows that share nothing
    assert labelled or last > first
    if labelled:
        outputs = [perfect(task, feature) for feature in features]
        (said,) = task.decode(outputs, features, task.train, TOKENIZER)
        assert (said.value, said.extra["start"]) == (answer, start)


def test_windows_know_their_row() -> None:
    context = " ".join(PLAIN)
    task = made([row("who ?", "the cat", "cat"), row("where ?", context, PLAIN[-1])], stride=2)
    features = task.features(task.train, TOKENIZER, max_length=16)
    assert [feature["row"] for feature in features][:2] == [0, 1]
    assert len(features) > 4
    batch = task.collate(features, TOKENIZER)
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert batch["labels"].shape == (len(features), 2)


def test_several_forms_of_answers() -> None:
    context = "Anna lives in Paris"
    forms = [
        {"answers": {"text": ["Paris"], "answer_start": [14]}},
        {"answers": {"text": "Paris", "answer_start": 14}},
        {"answers": [{"text": "Paris", "answer_start": 14}]},
        {"answers": "Paris", "answer_start": 14},
        {"answers": "Paris", "answer_start": "14"},
        {"answers": "Paris"},
        {"answers": '{"text": ["Paris"], "answer_start": [14]}'},
    ]
    task = made([{"question": "where ?", "context": context, **form} for form in forms])
    assert task.kind.gold(task.train) == [["Paris"]] * len(forms)
    assert len({tuple(feature["labels"]) for feature in task.features(task.train, TOKENIZER)}) == 1


def test_no_answer() -> None:
    none = {"question": "who ?", "context": "the cat sat", "answers": {"text": [], "answer_start": []}}
    task = made([none, row("who ?", "the dog ran", "dog")], no_answer=True)
    features = task.features(task.train, TOKENIZER)
    assert [feature["labels"] for feature in features] == [[0, 0], [5, 5]]
    predictions = task.decode([perfect(task, feature) for feature in features], features, task.train, TOKENIZER)
    assert [one.value for one in predictions] == ["", "dog"]
    assert task.score(predictions, task.train) == {"squad_f1": 1.0, "exact_match": 1.0}


def test_ends_in_front_of_starts_and_outside_of_the_context_are_no_answers() -> None:
    task = made([row("who sat ?", "the cat sat", "cat")])
    (feature,) = task.features(task.train, TOKENIZER)
    logits = torch.zeros(len(feature["input_ids"]), 2)
    logits[1] = 2 * SURE  # in the question
    logits[7, 0], logits[5, 1], logits[6, :] = SURE, SURE, SURE - 1  # backwards from "sat", or "cat"
    (said,) = task.decode([logits], [feature], task.train, TOKENIZER)
    assert said.value in ("cat", "cat sat", "the cat")
    assert said.extra["start"] < said.extra["end"]
    assert sum(one["probability"] for one in said.extra["nbest"]) == pytest.approx(1.0)


def test_a_long_question_leaves_room() -> None:
    task = made([row(" ".join(PLAIN), "the cat sat", "cat")])
    features = task.features(task.train, TOKENIZER, max_length=12)
    assert all(len(feature["input_ids"]) <= 12 for feature in features)
    with pytest.raises(TaskError, match=r"qa, train row:1: max_length 4 leaves no room"):
        task.features(task.train, TOKENIZER, max_length=4)


def test_spaces_of_byte_level_tokens_are_no_part_of_an_answer() -> None:
    letters = pre_tokenizers.ByteLevel.alphabet()
    inner = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(sorted(letters))}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    words = PreTrainedTokenizerFast(tokenizer_object=inner)
    task = made([row("?", "Zoë lives in Zürich", "Zürich")], stride=4)
    features = task.features(task.train, words, max_length=16)
    for feature in features:
        if feature["labels"] != [0, 0]:  # as a model may say it: from the space on
            feature["labels"][0] -= 1
    (said,) = task.decode([perfect(task, feature) for feature in features], features, task.train, words)
    assert (said.value, said.extra["start"]) == ("Zürich", 13)


def test_a_context_without_a_token_is_refused() -> None:
    task = made([{"question": "who ?", "context": " ", "answers": []}] * 2, no_answer=True, dev_share=0.5)
    with pytest.raises(TaskError, match="qa, train row:1: the context ' ' has no tokens at all"):
        task.features(task.train, TOKENIZER)
