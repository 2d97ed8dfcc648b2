"""Tags: the first piece stands for its word; what is cut off is outside; tables may hold lists."""

from __future__ import annotations

import pytest
import torch

from graftwork.errors import TaskError
from graftwork.tasks import Task, TaskSpec
from tests.support.tiny_tasks import perfect, tiny


def test_the_first_piece_of_a_word_is_labelled() -> None:
    case = tiny("tagging")
    feature = case.features()[1]  # un ##believ ##able Acme Paris
    assert feature["words"] == [1, 4, 5]
    names = [None if label < 0 else case.task.labels[label] for label in feature["labels"]]
    assert names == [None, "O", None, None, "B-ORG", "I-ORG", None]


def test_words_that_are_cut_off_are_outside_and_count_as_such() -> None:
    case = tiny("tagging", max_length=5)
    features = case.features()
    assert features[1]["words"] == [1, -1, -1]
    outputs = [perfect(case.task, feature) for feature in features]
    predictions = case.task.decode(outputs, features, case.task.train, case.processor)
    assert predictions[1].value == ["O", "O", "O"]
    assert predictions[1].extra["probability"][1:] == [None, None]
    scores = case.task.score(predictions, case.task.train)
    # missed: one place in Berlin, one organisation; of 13 words, 3 tags are wrong
    assert scores["entity_f1"] == pytest.approx(2 * 2 / (2 + 4))
    assert scores["tag_accuracy"] == pytest.approx(10 / 13)


def test_a_word_of_nothing_is_outside() -> None:
    case = tiny("tagging")
    rows = [{"tokens": ["Anna", " ", "ran"], "tags": ["B-PER", "O", "O"]}]
    task = Task.from_rows("t", case.task.spec, rows, rows)
    (feature,) = task.features(task.train, case.processor)
    assert feature["words"] == [1, -1, 2]
    (said,) = task.decode([torch.zeros(4, 2)], [feature], task.train, case.processor)
    assert said.value[1] == "O"


def test_other_tags_are_scored_word_by_word() -> None:
    rows = [{"tokens": "the cat", "tags": "DET NOUN"}, {"tokens": '["a", "dog"]', "tags": '["DET", "NOUN"]'}]
    task = Task.from_rows("t", TaskSpec(kind="tagging"), rows, rows)
    assert task.labels == ("DET", "NOUN")
    assert task.metrics == ("tag_accuracy",)
    assert task.kind.gold(task.train) == [["DET", "NOUN"]] * 2


def test_a_tokenizer_that_knows_no_words_is_refused() -> None:
    case = tiny("tagging")

    class Slow:
        is_fast = False

    with pytest.raises(
        TaskError, match=r"tagging has to know which token comes from where.*Slow cannot.*use_fast=True"
    ):
        case.task.features(case.task.train, Slow())
