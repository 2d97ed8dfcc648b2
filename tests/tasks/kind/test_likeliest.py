"""Choices by their likelihood, against a plain loop in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from graftwork import attach
from graftwork.errors import TaskError
from graftwork.tasks import Task, TaskSpec
from graftwork.training.encoding import Encoded
from graftwork.training.outputs import autocast_as, predictions_of
from tests.support.tiny_chat import byte_tokenizer, gpt2, llama, talker

ROWS = [
    {"prompt": "good film", "target": "yes", "own": ["yes", "no", "who knows"]},
    {"prompt": "a bad, a very bad film", "target": "no", "own": ["no", "not at all"]},
    {"prompt": "?", "target": "no", "own": ["no", "yes"]},
]


def made(rows: list[dict[str, Any]] = ROWS, **spec: Any) -> Task:
    return Task.from_rows("t", TaskSpec(kind="generation", **spec), rows, rows)


def by_hand(base: Any, tokenizer: Any, prompt: str, choice: str, normalized: bool) -> float:
    """The sum of the log-probabilities of a choice's tokens, one after the other."""
    chat = [{"role": "user", "content": prompt}]
    ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))["input_ids"]
    answer = [*tokenizer(choice)["input_ids"], tokenizer.eos_token_id]
    total = 0.0
    for token in answer:
        with torch.no_grad():
            logits = base(input_ids=torch.tensor([ids])).logits[0, -1]
        total += float(logits.log_softmax(-1)[token])
        ids = [*ids, token]
    return total / (len(answer) if normalized else 1)


@pytest.mark.parametrize("config", [llama, gpt2])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("choices", [["yes", "no"], "own"])
def test_scores_are_those_of_a_plain_loop(config: Any, normalized: bool, choices: Any) -> None:
    model, tokenizer = talker(config()), byte_tokenizer()
    adapters = attach(model)
    task = made(choices=choices, **({"length_normalized": True} if normalized else {}))
    adapters.add_head("t", task.head())
    adapters.activate(None, head="t")
    found, loss = predictions_of(model, Encoded(task, tokenizer, 256), task.dev, 2, autocast_as(model))
    assert loss is None  # a loss over all choices says nothing
    for row, prediction in zip(ROWS, found, strict=True):
        words = row["own"] if choices == "own" else choices
        scores = np.array([by_hand(model.base, tokenizer, row["prompt"], word, normalized) for word in words])
        chances = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        assert prediction.value == words[int(scores.argmax())]
        assert list(prediction.probabilities.items()) == [
            (word, pytest.approx(chance, rel=1e-4, abs=1e-9)) for word, chance in zip(words, chances, strict=True)
        ]


def test_logits_that_are_whole_are_read_too() -> None:
    task, tokenizer = made(choices=["yes", "no"]), byte_tokenizer()
    features = task.features(task.train, tokenizer)
    logits = [torch.randn(len(one["input_ids"]) + 2, 260, dtype=torch.float64) for one in features]
    labels = [torch.tensor([[*one["labels"], -100, -100]]) for one in features]
    reduced = [task.kind.reduce(one[None], label)[0] for one, label in zip(logits, labels, strict=True)]
    whole, parts = (task.decode(outputs, features, task.train, tokenizer) for outputs in (logits, reduced))
    assert [one.probabilities for one in whole] == [pytest.approx(one.probabilities) for one in parts]


def test_it_is_scored_as_a_classification() -> None:
    task = made(choices=["yes", "no"], positive="no", metrics=("accuracy", "f1"))
    assert task.labels == ("yes", "no") and task.kind.positive == "no"
    assert task.kind.gold(task.train) == ["yes", "no", "no"]
    assert made(choices=["yes", "no"]).metrics == ("accuracy", "macro_f1")
    assert made(choices="own").metrics == ("accuracy",) and made(choices="own").labels == ()


def test_a_choice_is_never_cut() -> None:
    task, tokenizer = made(choices=["yes", "no"]), byte_tokenizer()
    for feature in task.features(task.train, tokenizer, max_length=90):
        assert len(feature["input_ids"]) <= 90
        assert tokenizer.decode(feature["input_ids"][feature["prompt"] :]) in ("yes<|im_end|>", "no<|im_end|>")
    with pytest.raises(
        TaskError, match="t, train row:1: a choice has 4 tokens, and prompt and choice together may have 4"
    ):
        task.features(task.train, tokenizer, max_length=4)


def test_as_it_is_typed() -> None:
    assert made(choices=["yes", "no"]).kind.typed(["x"]) == {"prompt": "x"}
    assert made(choices="own").kind.typed(["x", "a", "b"]) == {"prompt": "x", "own": ["a", "b"]}
    with pytest.raises(TaskError, match="the prompt and then two choices or more"):
        made(choices="own").kind.typed(["x", "a"])


@pytest.mark.parametrize(
    ("spec", "change", "message"),
    [
        ({"choices": ["yes", "nay"]}, {}, r"t, train row:2: 'target' is 'no'; it is none of the choices \(yes, nay\)"),
        ({"choices": "own"}, {"target": "not"}, r"'target' is 'not'; it is none of the choices .*did you mean 'no'"),
        ({"choices": "own"}, {"own": ["no"]}, r"'own' is \['no'\]; give two choices or more, each once"),
        ({"choices": "own"}, {"own": ["no", "no"]}, "give two choices or more, each once"),
        ({"choices": "elsewhere"}, {}, "no column 'elsewhere'"),
        ({"choices": ["yes"]}, {}, "the only label is 'yes'"),
        ({"choices": ["yes", "no"], "messages": "m"}, {}, "choices stand after a prompt: give prompt and target"),
    ],
)
def test_what_cannot_be_used(spec: dict[str, Any], change: dict[str, Any], message: str) -> None:
    rows = [ROWS[0], {**ROWS[1], **change}]
    with pytest.raises(TaskError, match=message):
        made(rows, **spec)


def test_a_list_is_no_column() -> None:
    rows = [{"text": "x", "choices": ["a", "b"], "label": 0}] * 2
    with pytest.raises(TaskError, match="for multiple_choice it is the name of a column"):
        Task.from_rows("t", TaskSpec(kind="multiple_choice", choices=["a", "b"]), rows, rows)
