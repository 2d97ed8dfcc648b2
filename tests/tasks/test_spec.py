"""What a recipe may say of a task."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from graftwork.errors import GraftworkError, TaskError
from graftwork.tasks import Task, TaskSpec, kinds
from tests.support.tiny_tasks import ROWS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"datta": "x"}, "datta"),
        ({"dev_share": 1.0}, "dev_share"),
        ({"rows": 0}, "rows"),
        ({"labels": ["a", "b", "a"]}, "the label 'a' stands there twice"),
        ({"metrics": []}, "metrics"),
        ({"text": "x", "pair": "x"}, "text and pair are both the column 'x'"),
    ],
)
def test_what_it_may_not(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        TaskSpec(**fields)


def test_it_is_data() -> None:
    spec = TaskSpec(kind="tagging", labels=["O", "B-X"], metrics="entity_f1")  # type: ignore[arg-type]
    assert spec.metrics == ("entity_f1",)
    assert TaskSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(pydantic.ValidationError):
        spec.kind = "regression"  # type: ignore[misc]


def test_a_kind_that_is_not_known() -> None:
    with pytest.raises(TaskError, match="task 't': kind 'clasification' is not known; did you mean 'classification'"):
        Task.from_rows("t", TaskSpec(kind="clasification"), ROWS["classification"])
    assert issubclass(TaskError, GraftworkError)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("text_to_text", {"pooling": "mean"}),
        ("classification", {"stride": 3}),
        ("regression", {"labels": ["a", "b"]}),
        ("tagging", {"text": "words"}),
        ("causal_lm", {"label": "x"}),
        ("image_classification", {"max_length": 10}),
    ],
)
def test_what_means_nothing_for_a_kind_is_refused(kind: str, fields: dict[str, Any]) -> None:
    (field,) = fields
    with pytest.raises(TaskError, match=f"task 't': {field} means nothing for {kind}; it takes"):
        Task.from_rows("t", TaskSpec(kind=kind, **fields), ROWS[kind])


def test_what_each_kind_says_of_itself() -> None:
    for name, kind in kinds.items():
        assert kind.name == name
        assert kind.auto.startswith("AutoModel")
        assert kind.processor in ("tokenizer", "image")
        assert kind.options <= set(TaskSpec.model_fields)
    assert [name for name, kind in kinds.items() if kind.generates] == ["generation", "text_to_text"]
    assert kinds["tagging"].columns(TaskSpec(tokens="words"), train=True) == ("words", "tags")
