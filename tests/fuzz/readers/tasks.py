"""Data files of every form and for every kind of task."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
from PIL import Image

from graftwork.tasks import Task, TaskSpec
from graftwork.tasks.cells import Cells
from graftwork.tasks.images import read_image
from graftwork.tasks.knowledge.triples import read_triples
from graftwork.tasks.reading.files import read_texts
from tests.fuzz.readers.reader import Reader


def readers() -> list[Reader]:
    """All of them."""
    found = [Reader(f"task {name}", write, _read_task(kind)) for name, (kind, write) in TASKS.items()]
    found.append(Reader("triples", _triples, lambda folder: [str(t) for t in read_triples(folder / "graph.tsv")]))
    texts = Reader("texts", _texts, lambda folder: [dict(row) for row in read_texts(folder / "texts.txt")])
    return [*found, texts]


ROWS = [{"text": f"row {n}: a “good” film", "label": ("neg", "pos")[n % 2]} for n in range(12)]
ANSWERS = [
    {"question": f"who is {n}?", "context": f"it is {n} here", "answers": {"text": [str(n)], "answer_start": [6]}}
    for n in range(6)
]
DIALOGUES = [
    {"messages": [{"role": "user", "content": f"how much is {n}?"}, {"role": "assistant", "content": str(n)}]}
    for n in range(6)
]
CHOICES = [{"text": f"what is {n}?", "choices": ["one", "two", "three"], "label": n % 3} for n in range(6)]
SEVERAL = [{"text": f"row {n}", "label": [["x"], ["x", "y"], []][n % 3]} for n in range(6)]
WORDS = [{"tokens": ["New", "York", f"has {n}"], "tags": ["B-LOC", "I-LOC", "O"]} for n in range(8)]


def _read_task(kind: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        columns = {"generation": {"messages": "messages"}, "multiple_choice": {"choices": "choices"}}.get(kind, {})
        task = Task.read("t", TaskSpec(kind=kind, data=str(folder), **columns))  # type: ignore[call-arg,arg-type]
        for number, row in enumerate(task.train if kind == "image_classification" else ()):
            read_image(Cells(row, task.train.place(number), task.spec))
        return task.labels, [dict(row) for row in (*task.train, *task.dev)]

    return read


def _lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _each(
    ending: str, written: Callable[[list[dict[str, Any]]], bytes], rows: list[dict[str, Any]]
) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for part in ("train", "dev"):
            (folder / f"{part}{ending}").write_bytes(written(rows))

    return write


def _table(**style: Any) -> Callable[[list[dict[str, Any]]], bytes]:
    return lambda rows: pandas.DataFrame(rows).to_csv(index=False, **style).encode(style.get("encoding", "utf-8"))


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    found: bytes = pandas.DataFrame(rows).to_parquet(index=False)
    return found


def _conll(rows: list[dict[str, Any]]) -> bytes:
    sentences = [
        "".join(f"{w.replace(' ', '_')} {t}\n" for w, t in zip(r["tokens"], r["tags"], strict=True)) for r in rows
    ]
    return "\n".join(sentences).encode()


def _squad(rows: list[dict[str, Any]]) -> bytes:
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    "id": str(n),
                    "question": row["question"],
                    "answers": [{"text": row["answers"]["text"][0], "answer_start": row["answers"]["answer_start"][0]}],
                }
            ],
        }
        for n, row in enumerate(rows)
    ]
    return json.dumps({"version": "1", "data": [{"title": "x", "paragraphs": paragraphs}]}).encode()


def _images(folder: Path) -> None:
    Image.init()  # Pillow loads all its formats when it meets a file of none, and what these need
    for part in ("train", "dev"):
        for label in ("cat", "dog"):
            (folder / part / label).mkdir(parents=True)
            for n in range(2):
                Image.new("RGB", (8, 8), (n, 50, 99)).save(folder / part / label / f"{n}.png")


def _saved_to_disk(folder: Path) -> None:
    import datasets

    datasets.DatasetDict({part: datasets.Dataset.from_list(ROWS) for part in ("train", "dev")}).save_to_disk(folder)


def _triples(folder: Path) -> None:
    rows = ["subject\tpredicate\tobject", *(f"s{n}\tis near\to {n}" for n in range(9))]
    (folder / "graph.tsv").write_text("\n".join(rows) + "\n")


def _texts(folder: Path) -> None:
    (folder / "texts.txt").write_text("".join(f"a text, the {n}. of “all”\n" for n in range(9)))


def _with_labels(folder: Path) -> None:
    numbered = [{**row, "label": n % 2} for n, row in enumerate(ROWS)]
    _each(".jsonl", lambda rows: _lines(rows).encode(), numbered)(folder)
    (folder / "meta.json").write_text(json.dumps({"labels": ["neg", "pos"]}))


TASKS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "named labels": ("classification", _with_labels),
    "numbers": ("regression", _each(".csv", _table(), [{"text": f"t {n}", "label": n / 3} for n in range(9)])),
    "choices": ("multiple_choice", _each(".jsonl", lambda rows: _lines(rows).encode(), CHOICES)),
    "several labels": ("multi_label", _each(".jsonl", lambda rows: _lines(rows).encode(), SEVERAL)),
    "jsonl": ("classification", _each(".jsonl", lambda rows: _lines(rows).encode(), ROWS)),
    "json": ("classification", _each(".json", lambda rows: json.dumps(rows).encode(), ROWS)),
    "csv": ("classification", _each(".csv", _table(), ROWS)),
    "semicolons": ("classification", _each(".csv", _table(sep=";"), ROWS)),
    "tsv": ("classification", _each(".tsv", _table(sep="\t"), ROWS)),
    "utf-16": ("classification", _each(".csv", _table(encoding="utf-16"), ROWS)),
    "gzip": ("classification", _each(".jsonl.gz", lambda rows: gzip.compress(_lines(rows).encode()), ROWS)),
    "parquet": ("classification", _each(".parquet", _parquet, ROWS)),
    "saved": ("classification", _saved_to_disk),
    "conll": ("tagging", _each(".conll", _conll, WORDS)),
    "dialogues": ("generation", _each(".jsonl", lambda rows: _lines(rows).encode(), DIALOGUES)),
    "squad": ("question_answering", _each(".json", _squad, ANSWERS)),
    "images": ("image_classification", _images),
}
