"""Data sets of the Hub, without one: `datasets` is there, the network is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graftwork.errors import TaskError
from graftwork.tasks import Task, TaskSpec
from graftwork.tasks.reading.hub import hub_names

datasets = pytest.importorskip("datasets")


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("imdb", [("imdb", None)]),
        ("glue/rte", [("glue/rte", None), ("glue", "rte")]),
        ("nyu-mll/glue/rte", [("nyu-mll/glue", "rte")]),
        ("../glue", []),
        ("/a/b", []),
        ("a/b/c/d", []),
    ],
)
def test_what_a_text_may_mean(data: str, names: list[tuple[str, str | None]]) -> None:
    assert hub_names(data) == names


def pretend(monkeypatch: pytest.MonkeyPatch, have: dict[tuple[str, str | None], Any]) -> None:
    def load(path: str, name: str | None = None) -> Any:
        if (path, name) not in have:
            raise ConnectionError(f"could not reach {path}")
        return have[path, name]

    monkeypatch.setattr(datasets, "load_dataset", load)


def test_splits_and_names_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )

    def split(labels: list[int]) -> Any:
        return datasets.Dataset.from_dict({"sentence": ["a"] * len(labels), "label": labels}, features=features)

    found = datasets.DatasetDict({"train": split([0, 1]), "validation": split([1]), "test": split([-1])})
    pretend(monkeypatch, {("glue", "rte"): found})
    task = Task.read("rte", TaskSpec(data="glue/rte", text="sentence"), tmp_path)
    assert task.labels == ("no", "yes")
    assert (task.kind.gold(task.train), task.kind.gold(task.dev)) == (["no", "yes"], ["yes"])
    assert str(task.dev.place(0)) == "glue/rte (validation):1"
    assert task.test is not None
    with pytest.raises(TaskError, match=r"glue/rte \(test\):1: 'label' is -1; an answer has to stand there"):
        task.kind.gold(task.test)


def test_tags_have_their_names_one_level_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tags = datasets.Sequence(datasets.ClassLabel(names=["O", "B-X"]))
    features = datasets.Features({"tokens": datasets.Sequence(datasets.Value("string")), "ner_tags": tags})
    train = datasets.Dataset.from_dict({"tokens": [["a", "b"], ["c"]], "ner_tags": [[0, 1], [1]]}, features=features)
    pretend(monkeypatch, {("wnut", None): datasets.DatasetDict({"train": train})})
    task = Task.read("ner", TaskSpec(kind="tagging", data="wnut", tags="ner_tags", dev_share=0.5), tmp_path)
    assert task.labels == ("O", "B-X")
    assert sorted(task.kind.gold(task.train) + task.kind.gold(task.dev)) == [["B-X"], ["O", "B-X"]]


def test_offline_says_what_was_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, {})
    with pytest.raises(
        TaskError, match=r"is no folder \(.*glue/rte\).*as the data set glue/rte: could not reach.*glue, conf"
    ):
        Task.read("rte", TaskSpec(data="glue/rte"), tmp_path)


def test_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TaskError, match=r"which is no folder .* needs datasets .*pip install 'graftwork\[tasks\]'"):
        Task.read("rte", TaskSpec(data="glue/rte"), tmp_path)
