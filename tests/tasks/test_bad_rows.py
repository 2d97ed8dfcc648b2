"""Rows that cannot be used: every complaint says the value, where it stands, and the way out."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from graftwork.errors import TaskError
from graftwork.tasks import Task, TaskSpec
from tests.support.tiny_tasks import ROWS


def wrong(kind: str, **change: Any) -> list[dict[str, Any]]:
    """The rows of a kind, of which the second is changed."""
    rows = copy.deepcopy(ROWS[kind])
    rows[1] |= change
    return rows


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("classification", {"text": 3}, r"'text' is 3; it must be a text; write it in quotes"),
    ("classification", {"text": None}, r"'text' is None; a value has to stand there"),
    ("classification", {"label": None}, r"'label' is None; a value has to stand there; give one, or take the row out"),
    (
        "classification",
        {"label": ["yes"]},
        r"'label' is \['yes'\]; the label \['yes'\] must be a name or a whole number",
    ),
    ("classification", {"label": 0.5}, r"'label' is 0\.5; the label 0\.5 must be a name or a whole number"),
    ("multi_label", {"label": "red"}, r"'label' is 'red'; several labels are a list of names"),
    ("multi_label", {"label": None}, r"'label' is None; a value has to stand there"),
    ("multi_label", {"label": '["red"'}, r"it is not JSON"),
    ("regression", {"label": "much"}, r"'label' is 'much'; it must be a number; name another column"),
    ("regression", {"label": math.nan}, r"'label' is nan; it must be a finite number; correct it"),
    ("regression", {"label": math.inf}, r"'label' is inf; it must be a finite number"),
    ("regression", {"label": True}, r"'label' is True; it must be a finite number"),
    ("regression", {"label": None}, r"'label' is None; a value has to stand there"),
    ("tagging", {"tags": ["O"]}, r"'tags' is \['O'\]; 1 tags for 3 words; give one tag a word"),
    ("tagging", {"tokens": ["a", 2, "b"]}, r"'tokens' is .*word 2, 2, must be a text"),
    ("tagging", {"tokens": []}, r"'tokens' is \[\]; it must be a list that is not empty"),
    ("tagging", {"tags": {"O": 1}}, r"it must be a list that is not empty"),
    ("multiple_choice", {"choices": ["a", "b"]}, r"2 choices, and the first train row has 3; give each row as many"),
    ("multiple_choice", {"choices": ["a", "b", 3]}, r"number 3 of it, 3, must be a text"),
    ("multiple_choice", {"label": 3}, r"'label' is 3; it must be the number of a choice, 0 to 2, or its text"),
    ("multiple_choice", {"label": "else"}, r"'label' is 'else'; it must be a number"),
    ("multiple_choice", {"label": None}, r"'label' is None; a value has to stand there"),
    (
        "question_answering",
        {"answers": {"text": ["Bob"], "answer_start": [3]}},
        r"'Bob' is not at its start 3.*at 16;.*bytes",
    ),
    (
        "question_answering",
        {"answers": {"text": ["Eva"], "answer_start": [0]}},
        r"'Eva' is not at its start 0.*nowhere",
    ),
    ("question_answering", {"answers": {"text": ["Bob"], "answer_start": ["x"]}}, r"the start 'x' is no whole number"),
    ("question_answering", {"answers": {"text": ["Bob"], "answer_start": []}}, r"1 texts and 0 starts"),
    ("question_answering", {"answers": {"text": [], "answer_start": []}}, r"there is no answer; .*no_answer = true"),
    ("question_answering", {"answers": "Eva"}, r"the answer 'Eva' does not stand in the context"),
    ("question_answering", {"answers": 3}, r"'answers' is 3; it must be \{\"text\""),
    ("text_to_text", {"target": 3}, r"'target' is 3; it must be a text"),
    ("text_to_text", {"target": []}, r"'target' is \[\]; it must be a list that is not empty"),
    ("text_to_text", {"target": None}, r"'target' is None; a value has to stand there"),
    ("masked_lm", {"text": 7}, r"'text' is 7; it must be a text"),
    ("image_classification", {"label": None}, r"'label' is None; a value has to stand there"),
]


@pytest.mark.parametrize(("kind", "change", "message"), CASES)
def test_in_train_rows(tmp_path: Path, kind: str, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in wrong(kind, **change)), encoding="utf-8")
    with pytest.raises(TaskError, match=rf"train\.jsonl:2: .*{message}"):
        Task.read("t", TaskSpec(kind=kind, train="train.jsonl", dev="train.jsonl"), tmp_path)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "classification",
            {"label": "yess"},
            r"the label 'yess' is none of the 2 labels \(no, yes\).*did you mean 'yes'",
        ),
        ("classification", {"label": 2}, r"the label '2' is a number, other rows have names \(no, yes\)"),
        ("multi_label", {"label": ["green"]}, r"the label 'green' is none of the 3 labels \(big, red, small\)"),
        ("tagging", {"tags": ["B-MISC", "O", "O"]}, r"the label 'B-MISC' is none of the 5 labels"),
        ("image_classification", {"label": "grey"}, r"the label 'grey' is none of the 2 labels \(bright, dark\)"),
    ],
)
def test_labels_that_were_never_seen(kind: str, change: dict[str, Any], message: str) -> None:
    for split in ("dev", "test"):
        rows = {"dev": ROWS[kind], split: wrong(kind, **change)}
        with pytest.raises(TaskError, match=rf"t, {split} row:2: .*{message}"):
            Task.from_rows("t", TaskSpec(kind=kind), ROWS[kind], **rows)


def test_an_empty_label_of_a_test_row_is_none_at_all() -> None:
    for label in (None, "", -1):
        test = wrong("classification", label=label)
        task = Task.from_rows("t", TaskSpec(), ROWS["classification"], ROWS["classification"], test)
        with pytest.raises(TaskError, match="t, test row:2: 'label' is"):
            task.kind.gold(task.test)  # type: ignore[arg-type]


def test_one_label_is_none() -> None:
    with pytest.raises(TaskError, match=r"task 't': the only label is 'a'; 2 are needed; give labels"):
        Task.from_rows("t", TaskSpec(), [{"text": "x", "label": "a"}] * 2)


def test_one_choice_is_none() -> None:
    with pytest.raises(TaskError, match="one choice is none"):
        Task.from_rows("t", TaskSpec(kind="multiple_choice"), [{"text": "x", "choices": ["a"], "label": 0}] * 2)


def test_too_many_labels_are_no_labels() -> None:
    rows = [{"text": "x", "label": f"an essay {n}"} for n in range(1200)]
    with pytest.raises(TaskError, match=r"t, train row:1001: .*more than 1000 labels; name another column"):
        Task.from_rows("t", TaskSpec(), rows)


def test_no_rows() -> None:
    with pytest.raises(TaskError, match="task 't': there are no train rows"):
        Task.from_rows("t", TaskSpec(), [])


def test_a_second_text_for_some_rows_only() -> None:
    from tests.support.tiny_tasks import tokenizer

    rows = wrong("classification", text_pair=None)
    task = Task.from_rows("t", TaskSpec(), rows, rows)
    with pytest.raises(TaskError, match="t, train row:2: no second text in 'text_pair', and other rows have one"):
        task.features(task.train, tokenizer())


def test_the_nearest_column_is_named() -> None:
    with pytest.raises(
        TaskError, match=r"no column 'text'; the row has 'txt', 'label'; .*text = \"COLUMN\" \(did you mean 'txt'"
    ):
        Task.from_rows("t", TaskSpec(), [{"txt": "a", "label": 1}, {"txt": "b", "label": 0}])
