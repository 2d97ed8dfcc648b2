"""The authored tasks: well formed, without repetitions, dev apart from train, balanced, and what make.py writes."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "examples" / "data"
TASKS = {"entailment": 3, "paraphrase": 2, "sentiment": 2, "contradiction": 2}


def rows(task: str, split: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / task / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def texts(row: dict) -> tuple[str, ...]:
    return (row["text"], row["text_pair"]) if "text_pair" in row else (row["text"],)


@pytest.mark.parametrize(("task", "labels"), TASKS.items())
@pytest.mark.parametrize("split", ["train", "dev"])
def test_rows_are_well_formed(task, labels, split):
    meta = json.loads((DATA / task / "meta.json").read_text(encoding="utf-8"))
    assert len(meta["labels"]) == labels
    found = rows(task, split)
    assert len(found) == meta["counts"][split] > 70
    keys = {"text", "label"} | (set() if task == "sentiment" else {"text_pair"})
    for row in found:
        assert set(row) == keys
        assert row["label"] in range(labels)
        for text in texts(row):
            assert text == text.strip()
            assert text[0].isupper()
            assert text[-1] in ".?!"
            assert not set(text) & set("{}")


@pytest.mark.parametrize("task", TASKS)
def test_nothing_is_said_twice_and_dev_is_apart_from_train(task):
    train, dev = ([frozenset(texts(row)) for row in rows(task, split)] for split in ("train", "dev"))
    assert len(set(train)) == len(train)
    assert len(set(dev)) == len(dev)
    sentences = [{text for row in side for text in row} for side in (train, dev)]
    assert not sentences[0] & sentences[1], "a whole sentence of dev occurs in train"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", ["train", "dev"])
def test_labels_are_balanced(task, split):
    labels = [row["label"] for row in rows(task, split)]
    shares = [labels.count(label) / len(labels) for label in range(TASKS[task])]
    assert min(shares) > 0.8 * max(shares)


def test_the_target_is_small():
    assert len(rows("contradiction", "train")) < len(rows("sentiment", "train")) / 2


def test_the_files_are_what_the_script_writes(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("examples_data_make", DATA / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    for name in ("scenes.txt", "reviews.txt", "notes.txt"):
        shutil.copy(DATA / name, tmp_path)
    monkeypatch.setattr(make, "HERE", tmp_path)
    make.main()
    for task in TASKS:
        for file in ("train.jsonl", "dev.jsonl", "meta.json"):
            assert (tmp_path / task / file).read_bytes() == (DATA / task / file).read_bytes(), f"{task}/{file}"
