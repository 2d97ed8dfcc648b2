"""The kind of a task and its columns, from the rows."""

from __future__ import annotations

from typing import Any

import pytest

from graftwork.errors import TaskError
from graftwork.tasks import Rows
from graftwork.tasks.guessing import guess


def rows(count: int = 12, **columns: Any) -> Rows:
    """Rows whose cells are made of their number, or repeat a few values."""
    made = [
        {name: (cell(n) if callable(cell) else cell[n % len(cell)]) for name, cell in columns.items()}
        for n in range(count)
    ]
    return Rows(made, source="t.csv")


def text(n: int) -> str:
    return f"the film number {n} was long"


CASES = {
    "classification": (rows(text=text, label=["no", "yes"]), {"text": "text", "label": "label"}, "2 different names"),
    "whole numbers": (rows(text=text, label=["0", "1"]), {"text": "text", "label": "label"}, "--kind regression"),
    "other names": (
        rows(id=str, message=text, mood=["glad", "sad", "cross"]),
        {"text": "message", "label": "mood"},
        "'mood' has 3 different names",
    ),
    "pair": (
        rows(premise=text, hypothesis=lambda n: f"a film {n}", label=["a", "b"]),
        {"text": "premise", "pair": "hypothesis", "label": "label"},
        "names",
    ),
    "regression": (rows(text=text, score=lambda n: f"{n}.5"), {"text": "text", "label": "score"}, "with a fraction"),
    "multi_label": (
        rows(text=text, labels=['["a", "b"]', "[]"]),
        {"text": "text", "label": "labels"},
        "lists of labels",
    ),
    "tagging": (
        rows(tokens=[["a", "b"]], ner_tags=[["O", "B-X"]]),
        {"tokens": "tokens", "tags": "ner_tags"},
        "a tag for each",
    ),
    "generation": (rows(prompt=text, completion=text), {"prompt": "prompt", "target": "completion"}, "a prompt"),
    "dialogue": (rows(messages=[[{"role": "user", "content": "hi"}]]), {"messages": "messages"}, "conversations"),
    "multiple_choice": (
        rows(question=text, options=[["a", "b"]], label=[0, 1]),
        {"text": "question", "choices": "options", "label": "label"},
        "list of choices",
    ),
    "question_answering": (
        rows(question=text, context=text, answers=[{"text": ["long"], "answer_start": [2]}]),
        {"question": "question", "context": "context", "answers": "answers"},
        "a question, a context",
    ),
    "two texts": (rows(source=text, summary=text), {"prompt": "source", "target": "summary"}, "no column is a label"),
    "image_classification": (
        rows(image=["a.png", "b.png"], label=["x", "y"]),
        {"image": "image", "label": "label"},
        "images",
    ),
}
KINDS = {
    "whole numbers": "classification",
    "other names": "classification",
    "pair": "classification",
    "dialogue": "generation",
    "two texts": "generation",
}


@pytest.mark.parametrize("case", CASES)
def test_the_columns_say_what_the_task_is(case: str) -> None:
    given, columns, why = CASES[case]
    found = guess(given)
    assert (found.kind, dict(found.columns)) == (KINDS.get(case, case), columns)
    assert why in found.why


def test_columns_that_are_not_read_are_named_and_only_unusual_ones_are_said_in_a_recipe() -> None:
    found = guess(CASES["other names"][0])
    assert found.unused == ("id",) and found.to_spec() == {"text": "message", "label": "mood"}
    assert guess(CASES["classification"][0]).to_spec() == {}


def test_an_encoder_and_decoder_writes_text_to_text() -> None:
    found = guess(CASES["two texts"][0], encoder_decoder=True)
    assert found.to_spec() == {"kind": "text_to_text", "text": "source", "target": "summary"}


def test_what_is_asked_for_comes_before_what_is_guessed() -> None:
    found = guess(CASES["whole numbers"][0], "regression")
    assert found.kind == "regression" and found.why.startswith("kind = 'regression' was asked for")
    other = guess(rows(a=text, b=["x", "y"], label=["no", "yes"]), columns={"label": "b"})
    assert other.columns == {"text": "a", "label": "b"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "clasification"}, "did you mean 'classification'"),
        ({"kind": "tagging"}, "do not say which are those of tagging; name them"),
        ({"columns": {"text": "txt"}}, "has no column 'txt'; did you mean 'text'"),
        ({"columns": {"texts": "text"}}, "'texts' is no role of a column"),
    ],
)
def test_what_cannot_be_guessed_is_refused_with_the_way_out(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        guess(CASES["classification"][0], **options)


def test_columns_that_say_nothing() -> None:
    with pytest.raises(TaskError, match="do not say what the task is; name them, such as --column text=COLUMN"):
        guess(rows(n=str, m=str))
