"""Which label a cell means: names come before numbers, and numbers that are names are names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftwork.errors import TaskError
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
        (["1.0", "0.0"], {"labels": ("no", "yes")}, ("no", "yes"), [1, 0]),  # as pandas has them beside empty cells
        (["1.0", "0.0"], {}, ("0.0", "1.0"), [1, 0]),
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


MIXED = r"the label '[01]' is a number, other rows have names \(entailment, .*; give labels = \[\.\.\.\]"
NAMED = [
    {"text": f"{name} {n}", "label": name} for n in range(3) for name in ("entailment", "neutral", "contradiction")
]
NUMBERED = [{"text": f"row {n}", "label": str(n % 3)} for n in range(6)]


@pytest.mark.parametrize("split", ["dev", "test"])
def test_numbers_beside_names_whose_order_nobody_gave(split: str) -> None:
    rows = {"dev": NAMED, split: NUMBERED}
    with pytest.raises(
        TaskError, match=rf"t, {split} row:1: 'label' is '0'; .*{MIXED}".replace("entailment", "contradiction")
    ):
        Task.from_rows("t", TaskSpec(), NAMED, **rows)
    told = Task.from_rows("t", TaskSpec(labels=("entailment", "neutral", "contradiction")), NAMED, **rows)
    assert told.kind.gold(told.dev if split == "dev" else told.test)[:3] == [*told.labels]  # type: ignore[arg-type]


def test_names_beside_numbers() -> None:
    with pytest.raises(TaskError, match=r"dev row:1: .*'entailment' is none of the 3 labels \(0, 1, 2\).*give labels"):
        Task.from_rows("t", TaskSpec(), NUMBERED, NAMED)


@pytest.mark.parametrize("kind", ["classification", "multi_label", "tagging"])
def test_names_and_numbers_in_one_file(kind: str, tmp_path: Path) -> None:
    """Also of several labels and of tags: one of them is enough."""
    cells = {"classification": ["{}"], "multi_label": ['"[""{}""]"'], "tagging": ["{}"]}[kind]
    lines = [
        "tokens,text,tags,label",
        *(f"a,a {n},{one},{cells[0].format(one)}" for n, one in enumerate(["b", "1", "c"])),
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(TaskError, match=r"a\.csv:3: .*the label '1' is a number, other rows have names \(b, c\)"):
        Task.read("t", TaskSpec(kind=kind, train="a.csv"), tmp_path)
    task = Task.read("t", TaskSpec(kind=kind, train="a.csv", labels=("b", "1", "c"), dev="a.csv"), tmp_path)
    assert task.labels == ("b", "1", "c")
