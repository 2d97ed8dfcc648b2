"""Where a task's rows come from: folders, single files, images in folders; what is held out and what is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graftwork.errors import TaskError
from graftwork.tasks import Task, TaskSpec


def folder(path: Path, labels: Any = None, **splits: list[dict[str, Any]]) -> Path:
    path.mkdir(exist_ok=True)
    for split, rows in splits.items():
        (path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if labels is not None:
        (path / "meta.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    return path


def rows(count: int, texts: int | None = None) -> list[dict[str, Any]]:
    return [{"text": f"text {n % (texts or count)}", "label": n % 2} for n in range(count)]


def test_a_folder(tmp_path: Path) -> None:
    folder(tmp_path / "rte", ["yes", "no"], train=rows(6), validation=rows(4), test=rows(2))
    task = Task.read("rte", TaskSpec(data="rte"), tmp_path)
    assert (len(task.train), len(task.dev), len(task.test or ())) == (6, 4, 2)
    assert task.labels == ("yes", "no")
    assert task.kind.gold(task.dev) == ["yes", "no", "yes", "no"]


def test_single_files_come_before_the_folder(tmp_path: Path) -> None:
    folder(tmp_path / "a", ["yes", "no"], train=rows(6), dev=rows(4))
    folder(tmp_path / "b", dev=rows(2))
    task = Task.read("t", TaskSpec(data="a", dev="b/dev.jsonl"), tmp_path)
    assert (len(task.train), len(task.dev)) == (6, 2)
    task = Task.read("t", TaskSpec(train="a/train.jsonl", dev=str(tmp_path / "b/dev.jsonl")), tmp_path)
    assert task.labels == ("yes", "no")


def test_a_share_is_held_out_and_no_text_is_on_both_sides(tmp_path: Path) -> None:
    folder(tmp_path / "a", ["yes", "no"], train=rows(60, texts=20))
    task, again = (Task.read("t", TaskSpec(data="a", dev_share=0.2), tmp_path) for _ in range(2))
    assert len(task.train) + len(task.dev) == 60
    assert 12 <= len(task.dev) <= 14
    assert not {row["text"] for row in task.train} & {row["text"] for row in task.dev}
    assert list(task.dev) == list(again.dev)
    few = Task.read("t", TaskSpec(data="a", dev_share=0.2, rows=10), tmp_path)
    fewer = Task.read("t", TaskSpec(data="a", dev_share=0.2, rows=5), tmp_path)
    assert list(few.dev) == list(task.dev), "scores stay comparable"
    assert (len(few.train), len(fewer.train)) == (10, 5)
    places = [{str(t.train.place(n)) for n in range(len(t.train))} for t in (fewer, few, task)]
    assert places[0] < places[1] < places[2]


def test_fewer_rows_are_scored_and_the_same_ones_each_time(tmp_path: Path) -> None:
    rows = [{"text": f"row {n}", "label": n % 2} for n in range(60)]
    spec = TaskSpec(scored_rows=10)
    one, again = (Task.from_rows("t", spec, rows[:20], rows[20:40], rows[40:]) for _ in range(2))
    assert len(one.train) == 20 and len(one.dev) == 10 and one.test is not None and len(one.test) == 10
    assert list(one.dev) == list(again.dev) and list(one.test) == list(again.test or ())
    assert all(row in rows[20:40] for row in one.dev)


def test_one_text_cannot_be_held_out(tmp_path: Path) -> None:
    folder(tmp_path / "a", ["yes", "no"], train=rows(6, texts=1))
    with pytest.raises(TaskError, match=r"train\.jsonl:1: the 6 train rows all have the same 'text'.*give dev = FILE"):
        Task.read("t", TaskSpec(data="a"), tmp_path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"data": "b"}, r"task 't': data = 'b' is no folder .*and the Hub gives nothing"),
        ({"data": "./b"}, r"data = '\./b' is not there; .* has a/, c/"),
        ({"data": "a/train.jsonl"}, "is a file; data is a folder, train = FILE a file"),
        ({"data": "c"}, r"c has no train file \(train\.jsonl, .*; .*c has dev\.jsonl, notes\.txt"),
        ({"train": "a/training.jsonl"}, r"training\.jsonl is not there; .*a has meta\.json, train\.csv, train\.jsonl"),
        (
            {"data": "a"},
            r"a has train\.jsonl and train\.csv, and one of them must be the train rows; give train = FILE",
        ),
        ({}, "task 't': neither data nor train is given; give a folder"),
    ],
)
def test_what_is_not_there(tmp_path: Path, spec: dict[str, str], message: str) -> None:
    folder(tmp_path / "a", ["yes", "no"], train=rows(6))
    (tmp_path / "a" / "train.csv").write_text("text,label\na,1\n", encoding="utf-8")
    folder(tmp_path / "c", dev=rows(2))
    (tmp_path / "c" / "notes.txt").touch()
    with pytest.raises(TaskError, match=message):
        Task.read("t", TaskSpec(**spec), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"meta\.json is not a JSON object"),
        ("[1]", r"meta\.json is not a JSON object"),
        ('{"labels": [1, 2]}', r"meta\.json: labels is \[1, 2\]; it must be a list of names"),
    ],
)
def test_names_of_labels_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    folder(tmp_path / "a", train=rows(6))
    (tmp_path / "a" / "meta.json").write_text(text, encoding="utf-8")
    with pytest.raises(TaskError, match=message):
        Task.read("t", TaskSpec(data="a"), tmp_path)


def test_images_in_folders(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for split, labels in {"train": "cat dog", "val": "cat dog", "test": ""}.items():
        for label in labels.split() or [""]:
            (tmp_path / "a" / split / label).mkdir(parents=True, exist_ok=True)
            for n in range(2):
                pillow.new("L", (8, 8), n).save(tmp_path / "a" / split / label / f"{n}.png")
    task = Task.read("t", TaskSpec(kind="image_classification", data="a"), tmp_path)
    assert task.labels == ("cat", "dog")
    assert (len(task.train), len(task.dev), len(task.test or ())) == (4, 4, 2)
    assert [feature["labels"] for feature in task.features(task.dev, None)] == [0, 0, 1, 1]
    (tmp_path / "a" / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(TaskError, match=r"cat/0\.png: 'image' is .*it cannot be read"):
        task.features(task.train, None)


SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the reference data sets are not beside the project")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rte", "classification"),
        ("stsb", "regression"),
        ("mc_cosmosqa_small", "multiple_choice"),
        ("cola", "classification"),
    ],
)
def test_reference_data_sets(name: str, kind: str) -> None:
    task = Task.read(name, TaskSpec(kind=kind, data=str(SHARED / name), rows=100))
    assert len(task.train) == 100
    assert len(task.kind.gold(task.dev)) == len(task.dev)
