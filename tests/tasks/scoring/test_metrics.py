"""Every metric against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from graftwork.errors import TaskError
from graftwork.options import needed
from graftwork.tasks import Prediction, Task, TaskSpec, metrics
from graftwork.tasks.scoring.answers import normal

A, B, C = "abc"


@pytest.mark.parametrize(
    ("name", "predicted", "gold", "labels", "value"),
    [
        ("accuracy", [A, B, A, A], [A, B, B, A], (A, B), 3 / 4),
        ("accuracy", [0, 2], [1, 2], (), 1 / 2),
        ("accuracy", [[A, B], [], [A]], [[B, A], [], [B]], (A, B), 2 / 3),
        ("accuracy", [" yes ", "Yes"], [["yes"], ["no", "yes"]], (), 1 / 2),
        # of b: 1 found, 1 missed, 1 too many: precision 1/2, recall 1/2
        ("f1", [B, A, B, A], [B, B, A, A], (A, B), 1 / 2),
        # only the second label counts: 2 found, none missed, 1 too many
        ("f1", [B, B, B, A], [B, B, A, A], (A, B), 4 / 5),
        ("macro_f1", [B, B, B, A], [B, B, A, A], (A, B), (4 / 5 + 2 / 3) / 2),
        ("f1", [A, B, C, A], [A, B, C, C], (A, B, C), (2 / 3 + 1 + 2 / 3) / 3),
        ("micro_f1", [A, B, C, A], [A, B, C, C], (A, B, C), 3 / 4),
        # c is nowhere: it does not count
        ("macro_f1", [A, B], [A, B], (A, B, C), 1.0),
        # a: 1 found, 1 too many (2/3); b: 1 found, 1 missed (2/3)
        ("micro_f1", [[A], [A, B], []], [[A], [B], [B]], (A, B), 2 / 3),
        ("macro_f1", [[A], [A, B], []], [[A], [B], [B]], (A, B, C), 2 / 3),
        ("micro_f1", [[], []], [[], []], (A, B), 1.0),
        # tp 2, tn 1, fp 1, fn 0: (2 - 0) / sqrt(3 · 2 · 2 · 1)
        ("matthews", [B, B, B, A], [B, B, A, A], (A, B), 2 / math.sqrt(12)),
        ("matthews", [A, A], [A, B], (A, B), 0.0),
        ("pearson", [1.0, 2.0, 3.0], [2.0, 4.0, 6.0], (), 1.0),
        ("pearson", [1.0, 2.0, 4.0], [1.0, 3.0, 2.0], (), 0.3273268353539886),
        ("spearman", [1.0, 10.0, 100.0], [1.0, 2.0, 3.0], (), 1.0),
        ("spearman", [1.0, 2.0, 4.0], [1.0, 3.0, 2.0], (), 0.5),
        ("pearson", [1.0, 1.0], [1.0, 2.0], (), 0.0),
        ("spearman", [1.0], [1.0], (), 0.0),
        # two entities are right, three said, three there
        (
            "entity_f1",
            [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC"]],
            [["B-PER", "I-PER", "O", "B-ORG"], ["B-LOC"]],
            (),
            2 / 3,
        ),
        ("entity_f1", [["O", "O"]], [["O", "B-PER"]], (), 0.0),
        ("tag_accuracy", [["O", "O", "B-X"], ["O"]], [["O", "B-X", "B-X"], ["O"]], (), 3 / 4),
        ("exact_match", ["The Cat!", "dog"], [["cat"], ["cat", "a bird"]], (), 1 / 2),
        # "big cat" against "cat": 2 · 1 / (2 + 1); the better of two
        ("squad_f1", ["a big cat", ""], [["dog", "the cat"], [""]], (), (2 / 3 + 1) / 2),
        ("squad_f1", ["something"], [[""]], (), 0.0),
        ("bleu", ["the cat sat on the mat"], [["the cat sat on the mat"]], (), 100.0),
        # 1 to 4 words in a row: 4/5, 3/4, 2/3, 1/2, and as long as the right one
        ("bleu", ["the cat sat on a"], [["the cat sat on it"]], (), 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25),
        ("bleu", ["one two three four", "a b c d"], [["x y z w", "one two three four"], ["a b c d"]], (), 100.0),
        ("chrf", ["the cat"], [["the cat"]], (), 100.0),
        ("chrf", ["abc"], [["xyz"]], (), 0.0),
        # words 3 of 4 said, 3 of 3 there; pairs 2 of 3, 2 of 2
        ("rouge1", ["the big cat sat"], [["the cat sat"]], (), 2 * 3 / (4 + 3)),
        ("rouge2", ["a the cat sat"], [["the cat sat"]], (), 2 * 2 / (3 + 2)),
        ("rougeL", ["sat the cat"], [["the cat sat", "x"]], (), 2 * 2 / (3 + 3)),
        ("token_accuracy", [[[5, -1.0], [6, -2.0]], [[7, -3.0]]], [[5, 0], [7]], (), 2 / 3),
        ("log_likelihood", [[[5, -1.0], [6, -2.0]], [[7, -3.0]]], [[5, 0], [7]], (), -2.0),
    ],
)
def test_by_hand(name: str, predicted: list, gold: list, labels: tuple[str, ...], value: float) -> None:
    assert metrics[name](predicted, gold, labels) == pytest.approx(value, abs=1e-9)


def test_every_metric_has_a_value_by_hand() -> None:
    (mark,) = [mark for mark in test_by_hand.pytestmark if mark.name == "parametrize"]
    assert {case[0] for case in mark.args[1]} == set(metrics)


def test_what_squad_takes_away() -> None:
    assert normal(" The  Eiffel-Tower, (a tower) ") == "eiffeltower tower"


def test_unequal_numbers_are_refused() -> None:
    with pytest.raises(TaskError, match="accuracy: 1 predictions for 2 rows"):
        metrics["accuracy"]([A], [A, B], (A, B))


def test_a_library_that_is_missing_is_named_with_what_to_install() -> None:
    with pytest.raises(TaskError, match=r"the metric x needs no_such_library .*pip install 'graftwork\[tasks\]'"):
        needed("no_such_library.part", "the metric x")


ROWS = [{"text": "a", "label": "yes"}, {"text": "b", "label": "no"}]


def test_a_metric_that_is_unknown_or_of_another_kind_is_refused() -> None:
    with pytest.raises(TaskError, match="task 't': metric 'acuracy' is not known; did you mean 'accuracy'"):
        Task.from_rows("t", TaskSpec(metrics=("acuracy",)), ROWS, ROWS)
    with pytest.raises(TaskError, match="metric 'bleu' is of texts, not of labels; there is accuracy, f1,"):
        Task.from_rows("t", TaskSpec(metrics=("accuracy", "bleu")), ROWS, ROWS)


def test_the_first_metric_is_the_main_one() -> None:
    task = Task.from_rows("t", TaskSpec(metrics=("f1", "accuracy"), positive="yes"), ROWS, ROWS)
    assert task.metric == "f1"
    assert list(task.score([Prediction("yes"), Prediction("yes")], task.dev)) == ["f1", "accuracy"]
    with pytest.raises(TaskError, match="1 predictions for 2 rows"):
        task.score([Prediction("yes")], task.dev)
