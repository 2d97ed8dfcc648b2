"""Dialogues as tokens: what is learnt of them, and what is left out where they are long."""

from __future__ import annotations

from typing import Any

import pytest

from graftwork.errors import TaskError
from graftwork.tasks import Place, TaskSpec
from graftwork.tasks.cells import Cells
from graftwork.tasks.dialogues import Transcriber, read_messages, said, shortened
from tests.support.tiny_chat import CHATML, END, byte_tokenizer

USER, OTHER = said("user", "Hi"), said("assistant", "Yo")
LONG = [said("system", "S"), said("user", "one"), said("assistant", "1"), said("user", "two"), said("assistant", "2")]


def learnt(ids: list[int], labels: list[int], tokenizer: Any) -> list[str]:
    """The runs of tokens that count in the loss, as texts."""
    runs: list[list[int]] = [[]]
    for token, label in zip(ids, labels, strict=True):
        assert label in (-100, token)
        if label == -100 and runs[-1]:
            runs.append([])
        elif label != -100:
            runs[-1].append(token)
    return [tokenizer.decode(run) for run in runs if run]


def test_ids_and_labels_made_by_hand() -> None:
    tokenizer = byte_tokenizer()
    ids, labels = Transcriber(tokenizer, Place("x")).whole([USER, OTHER])
    before = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    given, answer = tokenizer(before)["input_ids"], tokenizer(f"Yo{END}")["input_ids"]
    assert len(answer) == 3
    assert ids == given + answer  # nothing behind the end token
    assert labels == [-100] * len(given) + answer
    assert Transcriber(tokenizer, Place("x")).prompt([USER]) == given


def test_every_answer_of_a_dialogue_is_learnt() -> None:
    tokenizer = byte_tokenizer()
    ids, labels = Transcriber(tokenizer, Place("x")).whole(LONG)
    assert learnt(ids, labels, tokenizer) == [f"1{END}", f"2{END}"]
    assert tokenizer.decode(ids) + "\n" == tokenizer.apply_chat_template(LONG, tokenize=False)


def test_without_a_template_texts_stand_behind_one_another() -> None:
    tokenizer = byte_tokenizer(None)
    ids, labels = Transcriber(tokenizer, Place("x")).whole(LONG)
    assert tokenizer.decode(ids) == f"S\none1\ntwo2{END}"
    assert learnt(ids, labels, tokenizer) == ["1", f"2{END}"]


def test_a_tokenizers_own_first_token() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer(None)
    tokenizer.bos_token = "<|im_start|>"
    first = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", first)]
    )
    ids, labels = Transcriber(tokenizer, Place("x")).whole([USER, OTHER])
    assert ids[0] == first and ids.count(first) == 1 and labels[0] == -100
    tokenizer.chat_template = CHATML  # which writes what there is at the beginning
    assert (
        Transcriber(tokenizer, Place("x")).prompt([USER]) == tokenizer(CHATML_HI, add_special_tokens=False)["input_ids"]
    )


CHATML_HI = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_the_last_answer_alone_is_cut() -> None:
    tokenizer = byte_tokenizer()
    dialogue = [*LONG[:-1], said("assistant", "twenty")]
    assert learnt(*Transcriber(tokenizer, Place("x")).whole(dialogue, 3), tokenizer) == [f"1{END}", "twe"]


def test_a_template_that_writes_an_answer_otherwise_where_others_follow() -> None:
    hidden = "{% for m in messages %}{% if m.role == 'user' or loop.last %}{{ m.content }};{% endif %}{% endfor %}"
    transcriber = Transcriber(byte_tokenizer(hidden), Place("rows.jsonl", 3))
    assert transcriber.whole([USER, OTHER])
    with pytest.raises(
        TaskError, match=r"rows\.jsonl:3: the chat template .* its tokens cannot be told; give rows with one"
    ):
        transcriber.whole(LONG)


def test_a_template_that_refuses() -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    with pytest.raises(TaskError, match=r"rows:1: the chat template .* messages of system, user.*: no system here"):
        Transcriber(byte_tokenizer(strict), Place("rows", 1)).text(LONG)


def test_a_tokenizer_without_an_end() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(TaskError, match=r"no end token, so that no answer would ever end; set tokenizer.eos_token"):
        Transcriber(tokenizer, Place("x"))


@pytest.mark.parametrize(
    ("room", "left"),
    [(8, "S one 1 two"), (7, "S two"), (4, "S two"), (3, "S wo"), (1, "S "), (0, " ")],
)
def test_the_beginning_is_left_out(room: int, left: str) -> None:
    kept = shortened(LONG[:-1], lambda some: sum(len(one["content"]) for one in some) <= room)
    assert kept is not None and " ".join(one["content"] for one in kept) == left
    assert kept[-1]["role"] == "user"


def test_what_does_not_fit_at_all() -> None:
    assert shortened(LONG[:-1], lambda some: False) is None


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], r"it must be a list that is not empty"),
        (["Hi"], r"number 1 of it must be \{\"role\": ..., \"content\": ...\}, both texts"),
        ([{"role": "user", "content": 3}], "number 1 of it must be"),
        ([{"role": "assistent", "content": "x"}], "number 1 of it has the role 'assistent'; did you mean 'assistant'"),
        ([USER, said("system", "x")], "number 2 of it is the system's; it can only be the first"),
        ([OTHER], "the user says nothing in it"),
        ([said("system", "x")], "the user says nothing in it"),
    ],
)
def test_messages_that_are_none(messages: Any, message: str) -> None:
    cells = Cells({"messages": messages}, Place("rows.jsonl", 7), TaskSpec(kind="generation", messages="messages"))
    with pytest.raises(TaskError, match=rf"rows\.jsonl:7: 'messages' is .*{message}"):
        read_messages(cells)
