"""What a decoder is given to answer, what it learns, and what is read of what it wrote."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graftwork.errors import TaskError
from graftwork.tasks import Task, TaskSpec, kinds
from tests.support.tiny_chat import END, byte_tokenizer

ROWS = [
    {"prompt": "Say one.", "target": "One!"},
    {"prompt": "Say two, please.", "target": ["Two", "2"]},
]
HEADER = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n"
ASKED = "<|im_end|>\n<|im_start|>assistant\n"


def made(rows: list[dict[str, Any]] = ROWS, **spec: Any) -> Task:
    spec = {"max_new_tokens": 8, **spec}
    return Task.from_rows("t", TaskSpec(kind="generation", **spec), rows, rows)


def texts(task: Task, *, train: bool, template: bool = True, **options: Any) -> list[tuple[str, str]]:
    """The prompt and the answer of each feature."""
    tokenizer = byte_tokenizer() if template else byte_tokenizer(None)
    found = []
    for feature in task.features(task.train, tokenizer, train=train, **options):
        ids, start = feature["input_ids"], feature["prompt"]
        assert [label for label in feature["labels"] if label != -100][-len(ids[start:]) :] == ids[start:]
        found.append((tokenizer.decode(ids[:start]), tokenizer.decode(ids[start:])))
    return found


def test_prompts_go_through_the_chat_template() -> None:
    asked = [(f"{HEADER}Say one.{ASKED}", f"One!{END}"), (f"{HEADER}Say two, please.{ASKED}", f"Two{END}")]
    assert texts(made(), train=True) == texts(made(), train=False) == asked
    own = made(system="You count.")
    assert texts(own, train=True)[0][0] == f"{HEADER}Say one.{ASKED}".replace("Be kind.", "You count.")


def test_without_a_template_the_answer_follows_the_prompt() -> None:
    assert texts(made(system="You count."), train=False, template=False)[0] == ("You count.\nSay one.", f"One!{END}")


def test_columns_of_other_names() -> None:
    task = made([{"q": "a", "a": "b"}] * 2, prompt="q", target="a")
    assert type(task.kind).columns(task.spec, train=True) == ("q", "a")
    assert texts(task, train=True, template=False)[0] == ("a", f"b{END}")


def test_dialogues() -> None:
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    rows = [{"messages": [{"role": role, "content": text} for role, text in turns]}] * 2
    task = made(rows, messages="messages", system="S")
    assert task.kind.gold(task.train) == [["d"], ["d"]]
    (feature, _) = task.features(task.train, byte_tokenizer(), train=True)
    learnt = [token for token in feature["labels"] if token != -100]
    assert byte_tokenizer().decode(learnt) == f"b{END}d{END}"
    assert byte_tokenizer().decode(feature["input_ids"]).startswith("<|im_start|>system\nS<|im_end|>")
    prompt, answer = texts(task, train=False)[0]
    assert prompt.endswith(f"<|im_start|>user\nc{ASKED}") and answer == f"d{END}"
    asked = task.kind.typed(["x"])
    assert asked == {"messages": [{"role": "user", "content": "x"}]}


def test_the_beginning_of_a_prompt_is_left_out_and_neither_its_header_nor_the_answer() -> None:
    row = {"prompt": "abcdefghij", "target": "klm"}
    tokenizer = byte_tokenizer()
    whole = len(tokenizer(HEADER + ASKED)["input_ids"]) + 10 + 4
    task = made([row] * 2)
    for missing in (0, 1, 7):
        (prompt, answer), _ = texts(task, train=True, max_length=whole - missing)
        assert prompt == f"{HEADER}{row['prompt'][missing:]}{ASKED}" and answer == f"klm{END}"
    # what is generated has its room too
    (prompt, _), _ = texts(task, train=False, max_length=whole - 4 + 8 - 3)
    assert prompt == f"{HEADER}{row['prompt'][3:]}{ASKED}"
    # where there is no room for a header, the end of the prompt is kept
    (prompt, answer), _ = texts(task, train=True, max_length=14)
    assert answer == f"klm{END}" and prompt == "assistant\n"


def test_an_answer_is_cut_only_where_it_is_asked_for() -> None:
    long = [{"prompt": "a", "target": "b" * 40}] * 2
    with pytest.raises(TaskError, match=r"t, train row:1: the answer has 41 tokens, .* may have 30 \(max_length\)"):
        made(long).features(made(long).train, byte_tokenizer(), max_length=30, train=True)
    task = made(long, max_target_length=5)
    with pytest.warns(UserWarning, match="task 't': 2 of 2 answers have more than max_target_length = 5 tokens"):
        assert texts(task, train=True, max_length=30)[0][1] == "bbbbb"


def test_no_room_for_a_prompt() -> None:
    with pytest.raises(TaskError, match="max_new_tokens is 8, and prompt and answer together may have 8 tokens"):
        made().features(made().train, byte_tokenizer(), max_length=8)


def test_batches_for_generation_are_padded_on_the_left() -> None:
    task, tokenizer = made(), byte_tokenizer()
    features = task.features(task.train, tokenizer)
    asked = task.kind.asked(features, tokenizer)
    assert asked["attention_mask"][:, -1].all() and not asked["attention_mask"].all()
    rows = [ids[mask.bool()] for ids, mask in zip(asked["input_ids"], asked["attention_mask"], strict=True)]
    assert [row.tolist() for row in rows] == [one["input_ids"][: one["prompt"]] for one in features]
    assert asked["eos_token_id"] == [tokenizer.eos_token_id] and asked["do_sample"] is False
    batch = task.collate(features, tokenizer)  # for a loss on the right, as all others
    assert batch["attention_mask"][:, 0].all() and batch["labels"].shape == batch["input_ids"].shape


def test_sampling_is_asked_for() -> None:
    asked = made(top_p=0.5, num_beams=2).kind.generation()
    assert asked == {
        "num_beams": 2, "max_new_tokens": 8, "do_sample": True, "temperature": 1.0, "top_p": 0.5, "top_k": 0
    }  # fmt: skip


def test_what_was_written_is_read_without_special_tokens() -> None:
    task, tokenizer = made(), byte_tokenizer()
    written = torch.tensor(tokenizer(f" One!{END}<|pad|><|pad|>")["input_ids"])
    said = task.decode([written, written], [{}, {}], task.train, tokenizer)
    assert [one.value for one in said] == ["One!", "One!"]
    assert task.score(said, task.train)["exact_match"] == 0.5


def test_examples_stand_before_each_prompt_except_in_training() -> None:
    few = made(shots=1, system="S").few_shot()
    shot = few.kind.examples[0]["content"]
    target = {"Say one.": "One!", "Say two, please.": "Two"}[shot]
    begin = f"<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n{shot}{ASKED}{target}<|im_end|>\n<|im_start|>user\n"
    assert texts(few, train=False)[0][0] == f"{begin}Say one.{ASKED}"
    assert shot not in texts(few, train=True)[0 if shot != "Say one." else 1][0]
    assert made(shots=1).kind.examples == ()
    # the oldest are left out first
    assert shot not in texts(few, train=False, max_length=80)[0 if shot != "Say one." else 1][0]


@pytest.mark.parametrize(
    ("spec", "row", "message"),
    [
        ({}, {"prompt": "a"}, "no column 'target'"),
        ({}, {"prompt": "a", "target": None}, "'target' is None; a value has to stand there"),
        ({}, {"messages": [{"role": "user", "content": "a"}]}, 'a row is a dialogue: messages = "messages"'),
        ({}, {"prompt": 3, "target": "a"}, "'prompt' is 3; it must be a text"),
        (
            {"messages": "messages"},
            {"messages": [{"role": "user", "content": "a"}]},
            "the last message has to be the assis",
        ),
        (
            {"messages": "messages"},
            {"messages": [{"role": "user", "content": "a"}] + [{"role": "assistant", "content": "b"}] * 2},
            "two messages of the assistant follow one another at its end",
        ),
        ({"messages": "m", "prompt": "x"}, {"m": []}, "task 't': prompt means nothing for generation with messages"),
        (
            {"choices": ["a", "b"]},
            {"prompt": "a", "target": "a"},
            "max_new_tokens means nothing for generation with choices",
        ),
    ],
)
def test_what_cannot_be_used(spec: dict[str, Any], row: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        made([row] * 2, **spec)


def test_it_needs_no_head_of_its_own() -> None:
    kind = kinds["generation"]
    assert not kind.has_weights and kind.auto == "AutoModelForCausalLM"
