"""Which label a cell means: names come before numbers, and numbers that are names are names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graftwork.tasks import Task, TaskSpec


def task(given: list[Any], **spec: Any) -> Task:
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate(given)]
    return Task.from_rows("t", TaskSpec(**spec), rows, rows)


@pytest.mark.parametrize(
    ("labels", "spec", "names", "targets"),
    [
        ([1, 0, 1], {"labels": ("no", "yes")}, ("no", "yes"), [1, 0, 1]),
        (["yes", "no"], {"labels": ("no", "yes")}, ("no", "yes"), [1, 0]),
        (["1", "0"], {"labels": ("no", "yes")}, ("no", "yes"), [1, 0]),  # as CSV has them
        (["b", "a", "c"], {}, ("a", "b", "c"), [1, 0, 2]),
        # stars: numbers are names, and sorted as numbers
        ([10, 1, 5], {}, ("1", "5", "10"), [2, 0, 1]),
        ([1, 5], {"labels": ("5", "1")}, ("5", "1"), [1, 0]),
        ([True, False], {}, ("false", "true"), [1, 0]),
        ([1.0, 0.0], {"labels": ("no", "yes")}, ("no", "yes"), [1, 0]),
        ([np.int64(1), np.int64(0)], {"labels": ("no", "yes")}, ("no", "yes"), [1, 0]),
        ([-1, 1], {}, ("-1", "1"), [0, 1]),  # a name like others, where train has it
    ],
)
def test_names_and_numbers(labels: list[Any], spec: dict[str, Any], names: tuple[str, ...], targets: list[int]) -> None:
    made = task(labels, **spec)
    assert made.labels == names == tuple(made.head().names)
    assert made.kind.gold(made.train) == [names[target] for target in targets]


def test_several_labels_as_numbers_and_as_json() -> None:
    made = task([[0, 2], '["b"]', []], kind="multi_label", labels=("a", "b", "c"))
    assert made.kind.gold(made.train) == [["a", "c"], ["b"], []]
    assert made.head().to_dict()["multi_label"]
