"""What is held out, or dealt into folds: of each label the same share, no text on both sides, the same rows each time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from graftwork.errors import TaskError
from graftwork.tasks import Rows, Task, TaskSpec
from graftwork.tasks.reading import deal, hold_out


def labels_in(rows: Rows) -> Counter[str]:
    return Counter(str(row["label"]) for row in rows)


def test_a_rare_label_is_on_both_sides() -> None:
    rows = [{"text": f"line {n}", "label": "fail" if n % 100 == 0 else "ok"} for n in range(300)]
    task, again = (Task.from_rows("t", TaskSpec(), rows) for _ in range(2))
    assert labels_in(task.dev) == {"ok": 30, "fail": 1} and labels_in(task.train) == {"ok": 267, "fail": 2}
    assert list(task.dev) == list(again.dev)


@given(
    labels=st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=60),
    texts=st.integers(2, 60),
    share=st.floats(0.01, 0.9),
)
@settings(deadline=None, max_examples=200)
def test_every_label_that_can_be_parted_is_on_both_sides(labels: list[str], texts: int, share: float) -> None:
    rows = Rows([{"text": f"text {n % texts}", "label": label} for n, label in enumerate(labels)])
    if len({row["text"] for row in rows}) < 2:
        return
    train, dev = hold_out(rows, share, "text", [(label,) for label in labels])
    assert len(train) + len(dev) == len(rows) and len(train)
    assert not {row["text"] for row in train} & {row["text"] for row in dev}
    single = all(sum(row["text"] == other["text"] for other in rows) == 1 for row in rows)
    for label, count in labels_in(rows).items():
        if single and count > 1:
            assert labels_in(train)[label] and labels_in(dev)[label]
        if single:
            assert labels_in(dev)[label] < share * count + 1


def test_without_labels_it_is_a_share_of_all() -> None:
    rows = Rows([{"text": f"text {n}"} for n in range(25)])
    train, dev = hold_out(rows, 0.1, "text")
    assert (len(train), len(dev)) == (22, 3)


@pytest.mark.parametrize("kind", ["multi_label", "tagging"])
def test_rows_of_several_labels(kind: str) -> None:
    """Each common label is on both sides, and hundreds of rare ones do not take half of the rows."""

    def row(n: int) -> dict[str, Any]:
        names = ["common", f"rare{n // 2}"] + ["tenth"] * (n % 10 == 0)
        words = [f"word{n}", "a", "b"][: len(names)]
        return {"text": f"text {n}", "label": names, "tokens": words, "tags": names}

    task = Task.from_rows("t", TaskSpec(kind=kind), [row(n) for n in range(200)])
    assert 20 <= len(task.dev) <= 41
    for part in (task.train, task.dev):
        names = {name for cells in task.kind.cells(part) for name in task.kind.labels_of(cells)}
        assert {"common", "tenth"} <= names


def test_images_are_held_out_by_label_too() -> None:
    rows = [{"image": [[n]], "label": n % 5 == 0} for n in range(20)]
    task = Task.from_rows("t", TaskSpec(kind="image_classification"), rows)
    assert labels_in(task.dev) == {"False": 2, "True": 1}


@given(
    labels=st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=60),
    texts=st.integers(2, 60),
    folds=st.integers(2, 6),
)
@settings(deadline=None, max_examples=200)
def test_folds_have_every_row_once_and_the_same_share_of_each_label(labels: list[str], texts: int, folds: int) -> None:
    rows = Rows([{"text": f"text {n % texts}", "label": label} for n, label in enumerate(labels)])
    different = {row["text"] for row in rows}
    if len(different) < folds:
        with pytest.raises(TaskError, match=rf"cannot be dealt into {folds} folds; give fewer folds"):
            deal(rows, folds, "text", [(label,) for label in labels])
        return
    parts = deal(rows, folds, "text", [(label,) for label in labels])
    assert sorted(str(place) for part in parts for _, place in part.placed()) == sorted(
        str(p) for _, p in rows.placed()
    )
    assert all(parts)
    for n, part in enumerate(parts):
        others = {row["text"] for m, other in enumerate(parts) if m != n for row in other}
        assert others.isdisjoint(row["text"] for row in part)
    if len(different) == len(rows):
        for label in labels_in(rows):
            counts = [labels_in(part)[label] for part in parts]
            assert max(counts) - min(counts) <= 1
        assert max(map(len, parts)) - min(map(len, parts)) <= len(labels_in(rows))


@pytest.mark.parametrize("dev", [False, True])
def test_the_folds_of_a_task_are_of_its_train_and_dev_rows(dev: bool) -> None:
    rows = [{"text": f"line {n}", "label": "yes" if n % 4 == 0 else "no"} for n in range(40)]
    spec = TaskSpec(folds=5, class_weights="balanced", rows=25)
    task = Task.from_rows("t", spec, rows[:30] if dev else rows, rows[30:] if dev else None)
    every = [task.of_seed(seed) for seed in range(5)]
    assert sorted(row["text"] for one in every for row in one.dev) == sorted(row["text"] for row in rows)
    for one in every:
        assert labels_in(one.dev) == {"yes": 2, "no": 6} and len(one.train) == 25
        assert {row["text"] for row in one.train}.isdisjoint(row["text"] for row in one.dev)
        assert one.class_weights == one.kind.class_weights(one.train)
    assert list(task.of_seed(7).dev) == list(every[2].dev) and list(task.dev) == list(every[0].dev)
