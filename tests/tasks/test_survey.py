"""What is said of a task's data before it is trained."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from graftwork.errors import TaskError
from graftwork.tasks import Survey, Task, TaskSpec, survey
from tests.support.tiny_tasks import ROWS, tokenizer


def of(
    rows: list[dict[str, Any]], dev: list[dict[str, Any]] | None = None, length: int | None = 16, **spec: Any
) -> Survey:
    return survey(Task.from_rows("t", TaskSpec(**spec), rows, dev), tokenizer(), length)


def labelled(*labels: Any) -> list[dict[str, Any]]:
    return [{"text": f"the cat sat {n}", "label": label} for n, label in enumerate(labels)]


def test_the_numbers_of_labels_are_said() -> None:
    rows = labelled(*["no", "yes", "yes", "maybe"] * 5)
    found = of(rows, rows)
    assert found.counts == {"maybe": 5, "no": 5, "yes": 10} and found.largest == 0.5
    assert next(found.notes()) == "labels: 0 = 'maybe' (25.0 %), 1 = 'no' (25.0 %), 2 = 'yes' (50.0 %)"
    said = next(of(rows, rows, class_weights={"yes": 0.25}).notes())
    assert (
        said == "labels: 0 = 'maybe' (25.0 %, weight 1), 1 = 'no' (25.0 %, weight 1), 2 = 'yes' (50.0 %, weight 0.25)"
    )
    two = [row for row in rows if row["label"] != "maybe"]
    assert next(of(two, two, metrics="f1", positive="no").notes()).endswith("; f1 is that of 'no'")
    many = labelled(*(f"label {n}" for n in range(30)))
    assert next(of(many, many).notes()).endswith("'label 19' (3.3 %), ... (30 labels)")


@pytest.mark.parametrize(
    ("spec", "way_out"),
    [
        ({}, 'metrics = ["macro_f1"] and class_weights = "balanced"'),
        ({"metrics": "macro_f1"}, 'class_weights = "balanced"'),
        ({"class_weights": "balanced", "metrics": "macro_f1"}, ""),
    ],
)
def test_a_label_that_nearly_all_rows_have(spec: dict[str, Any], way_out: str) -> None:
    notes = list(of(labelled(*["fail"] + ["ok"] * 39), labelled("ok", "fail"), **spec).notes())
    said = "who always says 'ok' is right in 97.5 % of the train rows"
    assert notes[1:2] == [f"{said}; what lets the other labels count: {way_out}" if way_out else said]
    even = labelled("ok", "fail")
    assert not any("always" in note for note in of(even, even).notes())


def test_labels_that_differ_by_blanks_or_capitals() -> None:
    rows = labelled("pos", "pos ", "neg", "POS", "neutral", "caf\u00e9", "cafe\u0301")
    notes = [
        note for note in of(rows, rows).notes() if "blanks, capitals or encoding alone; write one label alike" in note
    ]
    found = [set(note.removeprefix("the labels ").split(" differ ")[0].split(", ")) for note in notes]
    assert len(found) == 2 and {"'POS'", "'pos'", "'pos '"} in found and {"'cafe\u0301'", "'caf\u00e9'"} in found


def test_labels_that_are_in_one_part_alone() -> None:
    notes = list(of(labelled("a", "b"), labelled("a", "a"), labels=("a", "b", "c")).notes())
    assert "no train row has 'c'" in notes
    assert "no dev row has 'b', so that no score tells how well that is learnt" in notes


def test_rows_that_are_cut() -> None:
    rows = labelled(*["a", "b"] * 4)
    rows[0]["text"] = rows[3]["text"] = "the cat " * 7  # and two of its frame: exactly as many as are read
    rows[1]["text"] = "the cat " * 7 + "sat"
    found = of(rows, rows[:2])
    assert (found.limit, found.encoded, found.cut) == (16, 10, 2)
    assert "20 % of the rows have more than 16 tokens, and the rest is cut off (max_length)" in found.notes()
    assert of(rows, rows[:2], length=17).cut == 0
    assert of(rows, rows[:2], max_length=4).cut == 10
    windows = [{**row, "context": row["context"] * 9} for row in ROWS["question_answering"]]
    assert of(windows, windows, kind="question_answering").encoded == 0


def test_rows_of_both_parts_and_empty_texts() -> None:
    rows = labelled("a", "b", "a", "b")
    rows[2]["text"] = "  "
    found = of(rows, [rows[0], {"text": "", "label": "b"}, {"text": "new", "label": "a"}])
    assert found.repeated == 1 and list(map(str, found.empty)) == ["t, train row:3", "t, dev row:2"]
    notes = list(found.notes())
    assert "1 of 3 dev rows are train rows too, so that their scores are too good" in notes
    assert "2 rows have an empty text, the first at t, train row:3" in notes
    pairs = [{"text": "a", "text_pair": f"b {n}", "label": n % 2} for n in range(6)]
    assert of(pairs[:4], pairs[4:]).repeated == 0


def test_an_index_of_pandas() -> None:
    rows = [{"Unnamed: 0": n, **row} for n, row in enumerate(labelled("a", "b"))]
    assert "the column 'Unnamed: 0' is the index that pandas writes; nothing is read from it" in of(rows, rows).notes()


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_every_kind(kind: str) -> None:
    rows = ROWS[kind]
    task = Task.from_rows("t", TaskSpec(kind=kind), rows, rows)
    found = survey(task, None if kind == "image_classification" else tokenizer(), 16)
    assert found.repeated == len(rows)
    assert not found.empty and (found.encoded > 0) == task.kind.cuts
    assert (found.largest is not None) == (kind in ("classification", "image_classification"))
    assert all(isinstance(note, str) for note in found.notes())


@pytest.mark.parametrize(
    ("kind", "metric", "module"),
    [
        ("classification", "f1", "sklearn.metrics"),
        ("regression", "pearson", "scipy.stats"),
        ("tagging", "entity_f1", "seqeval.metrics"),
        ("text_to_text", "bleu", "sacrebleu"),
        ("text_to_text", "rougeL", "rouge_score.rouge_scorer"),
    ],
)
def test_what_a_metric_needs_is_looked_at_before(
    kind: str, metric: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    spec = {"positive": "yes"} if metric == "f1" else {}
    with pytest.raises(TaskError, match=rf"the metric {metric} needs {module.split('.')[0]} .*pip install"):
        of(ROWS[kind], ROWS[kind], kind=kind, metrics=metric, **spec)


def test_a_text_without_tokens_is_met_before_the_training(tmp_path: Path) -> None:
    bare = tokenizer()
    bare.backend_tokenizer.post_processor = None  # type: ignore[assignment]
    rows = labelled(*["a", "b"] * 2000)
    rows[3000]["text"] = ""
    task = Task.from_rows("t", TaskSpec(), rows, rows[:4])
    with pytest.raises(TaskError, match="t, train row:3001: '' has no tokens at all; take the row out"):
        survey(task, bare, 16)


def test_it_takes_seconds_for_a_hundred_thousand_rows() -> None:
    rows = [{"text": f"the cat sat on the mat {n} " * 20, "label": n % 3} for n in range(100_000)]
    task = Task.from_rows("t", TaskSpec(), rows, rows[:1000])
    began = time.process_time()
    found = survey(task, tokenizer(), 64)
    assert time.process_time() - began < 20  # about three where nothing else runs
    assert found.repeated == 1000 and found.encoded == 2000 and found.cut == 2000
