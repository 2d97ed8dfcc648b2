"""What the kinds of texts have of their own: pairs, lengths, written texts, choices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graftwork.errors import TaskError
from graftwork.tasks import Task, TaskSpec
from tests.support.tiny_tasks import ROWS, perfect, tiny, tokenizer


def test_a_pair_is_told_apart() -> None:
    feature = tiny("classification").features()[0]
    assert feature["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_the_tasks_length_comes_before_the_recipes_and_that_before_the_tokenizers() -> None:
    rows = [{"text": "the cat " * 60, "label": n % 2} for n in range(2)]

    def length(spec: TaskSpec, given: int | None) -> int:
        task = Task.from_rows("t", spec, rows, rows)
        return task.lengths(task.features(task.train, tokenizer(), max_length=given))[0]

    assert length(TaskSpec(max_length=8), 10) == 8
    assert length(TaskSpec(), 10) == 10
    assert length(TaskSpec(), None) == 64


def test_probabilities_of_classes() -> None:
    task = tiny("classification").task
    (said, *_) = task.decode([np.log([3.0, 1.0])] * 4, [{}] * 4, task.train, None)
    assert said.value == "no"
    assert said.probabilities == pytest.approx({"no": 0.75, "yes": 0.25})
    assert said.to_dict() == {"value": "no", "probabilities": said.probabilities}


def test_several_labels_are_those_likelier_than_not() -> None:
    task = tiny("multi_label").task
    (said, *_) = task.decode([torch.tensor([2.0, -2.0, 0.1])] * 4, [{}] * 4, task.train, None)
    assert said.value == ["big", "small"]


def test_half_precision_outputs() -> None:
    task = tiny("regression").task
    said = task.decode([torch.tensor([0.5], dtype=torch.bfloat16)] * 4, [{}] * 4, task.train, None)
    assert said[0].value == 0.5


def test_choices_are_rows_one_behind_the_other() -> None:
    rows = [{"text": "the cat", "text_pair": "who ?", "choices": ["Anna", "Bob"], "label": "Bob"}] * 2
    task = Task.from_rows("mc", TaskSpec(kind="multiple_choice"), rows, rows)
    words = tokenizer()
    features = task.features(task.train, words)
    batch = task.collate(features, words)
    assert batch["input_ids"].shape[0] == 4
    assert batch["labels"].tolist() == [1, 1]
    assert words.decode(batch["input_ids"][1], skip_special_tokens=True).split() == "the cat who ? Bob".split()
    (said, _) = task.decode([torch.tensor([0.0, 1.0])] * 2, features, task.train, words)
    assert said.value == 1
    with pytest.raises(TaskError, match="mc, train row:1: 3 logits for 2 choices"):
        task.decode([torch.zeros(3)] * 2, features, task.train, words)


def test_written_texts() -> None:
    case = tiny("text_to_text", prefix="who ? ", num_beams=2, max_new_tokens=9, max_target_length=4)
    features = case.features()
    assert case.processor.decode(features[1]["input_ids"], skip_special_tokens=True) == "who ? bad"
    assert len(features[1]["labels"]) == 4
    assert case.task.kind.generation() == {"num_beams": 2, "max_new_tokens": 9}
    # generated tokens, padded by the model or by whoever gathered them
    padded = [torch.cat([torch.tensor([0]), perfect(case.task, one), torch.tensor([0, -100])]) for one in features]
    said = case.task.decode(padded, features, case.task.train, case.processor)
    assert said[0].value == "yes"
    logits = torch.nn.functional.one_hot(perfect(case.task, features[0]), 60).float()
    (read,) = case.task.decode([logits], features[:1], case.task.train[:1], case.processor)
    assert read.value == "yes"


def test_the_best_of_several_right_texts_counts() -> None:
    task = Task.from_rows(
        "t", TaskSpec(kind="text_to_text", metrics=("exact_match", "accuracy", "rougeL")), ROWS["text_to_text"]
    )
    from graftwork.tasks import Prediction, Rows

    rows = Rows(ROWS["text_to_text"][2:])
    assert task.score([Prediction("a cat ran")], rows) == {"exact_match": 1.0, "accuracy": 1.0, "rougeL": 1.0}


def test_a_text_without_a_token_is_refused() -> None:
    words = tokenizer()
    words.backend_tokenizer.post_processor = None  # type: ignore[assignment]
    rows = [{"text": "", "label": 0}, {"text": "a", "label": 1}]
    task = Task.from_rows("t", TaskSpec(), rows, rows)
    with pytest.raises(TaskError, match="t, train row:1: '' has no tokens at all; take the row out"):
        task.features(task.train, words)
