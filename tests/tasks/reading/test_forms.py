"""Files as other programs write them: they are read rightly, or one sentence says what to do."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from graftwork.errors import TaskError
from graftwork.tasks import Task, TaskSpec, read_rows

TEXTS = ['the "old" boat leaks, again', "a fine day", "two\nlines; and more", 'she said ""no"" twice', "tab\there"]
ROWS = [{"text": text, "label": str(n % 2)} for n, text in enumerate(TEXTS)]


def table(path: Path, separator: str, quoting: int = csv.QUOTE_MINIMAL, rows: list[dict[str, str]] = ROWS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator="\n")
        writer.writerows([list(rows[0]), *(row.values() for row in rows)])
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_tables_of_programs(tmp_path: Path, ending: str, separator: str, quoting: int) -> None:
    rows = read_rows(table(tmp_path / f"a.{ending}", separator, quoting))
    assert list(rows) == ROWS
    assert [rows.place(n).line for n in range(5)] == [2, 3, 4, 6, 7]


def test_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS)
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    frame.to_csv(tmp_path / "b.csv", sep=";", index=False, encoding="utf-16")
    frame.to_json(tmp_path / "c.json", orient="records")
    frame.to_json(tmp_path / "d.json", orient="records", lines=True)
    for name in ("a.tsv", "b.csv", "c.json", "d.json"):
        assert list(read_rows(tmp_path / name)) == ROWS, name
    for orient in ("columns", "index", "split"):
        frame.to_json(tmp_path / "e.json", orient=orient)
        with pytest.raises(TaskError, match=r'e\.json: one object .*no rows; .*orient="records"'):
            read_rows(tmp_path / "e.json")
    frame.to_json(tmp_path / "f.json", orient="table")
    assert [row["text"] for row in read_rows(tmp_path / "f.json")] == TEXTS


def test_an_index_of_pandas_is_called_so(tmp_path: Path) -> None:
    frame = pytest.importorskip("pandas").DataFrame([{"sentence": "a", "label": 1}, {"sentence": "b", "label": 0}])
    frame.to_csv(tmp_path / "a.csv")
    pytest.importorskip("pandas").read_csv(tmp_path / "a.csv").to_csv(tmp_path / "b.csv", index=False)
    for name, column in (("a.csv", "''"), ("b.csv", "'Unnamed: 0'")):
        with pytest.raises(TaskError, match=rf"the row has {column} \(the index that pandas writes\), 'sentence'"):
            Task.read("t", TaskSpec(train=name), tmp_path)


@pytest.mark.parametrize(
    "line",
    ['He said: "a, b"\t1', '"a start\t1', 'an end"\t1', '"whole"\t1', '"a "b" c"\t1', 'one "two" three, "four"\t0'],
)
def test_quotes_that_no_program_has_written_stay(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.tsv").write_text(f"text\tlabel\nplain\t0\n{line}\n", encoding="utf-8")
    text, label = line.split("\t")
    assert list(read_rows(tmp_path / "a.tsv"))[1] == {"text": text, "label": label}


def test_excel_quotes_what_has_a_comma(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tlabel\r\n"one, two"\t1\r\nthree\t0\r\n', encoding="utf-8", newline="")
    assert [row["text"] for row in read_rows(tmp_path / "a.tsv")] == ["one, two", "three"]


def test_a_long_document_is_a_cell(tmp_path: Path) -> None:
    limit, long = csv.field_size_limit(), "word " * 50_000
    rows = read_rows(table(tmp_path / "a.csv", ",", rows=[{"text": long, "label": "1"}]))
    assert rows[0]["text"] == long and csv.field_size_limit() == limit


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    text = "text,label\nzwölf ü,1\n"
    mark = "\ufeff" if encoding.endswith(("le", "be")) else ""
    (tmp_path / "a.csv").write_bytes((mark + text).encode(encoding))
    assert list(read_rows(tmp_path / "a.csv")) == [{"text": "zwölf ü", "label": "1"}]


def test_encodings_that_are_not_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\na,1\n".encode("utf-16-le"))
    with pytest.raises(TaskError, match=r"a\.csv has NUL characters, as UTF-16 without a byte order mark has; save"):
        read_rows(path)
    path.write_bytes("text,label\na,1\n".encode("utf-16")[:-1])
    with pytest.raises(TaskError, match=r"a\.csv begins as UTF-16 and is none \(byte 31: truncated data\)"):
        read_rows(path)


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}, {"a": "x"}]',
        ' [\n {"a": 1},\n {"a": "x"}\n]\n',
        '{"a": 1}\n{"a": "x"}\n',
        '{"version": 1, "data": [{"a": 1}, {"a": "x"}]}',
    ],
)
@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_json(tmp_path: Path, text: str, ending: str) -> None:
    data = text.encode()
    (tmp_path / f"a{ending}").write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    rows = read_rows(tmp_path / f"a{ending}")
    assert list(rows) == [{"a": 1}, {"a": "x"}]
    assert [rows.place(n).line for n in range(2)] == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is empty: it has no rows"),
        ("[1, 2]", r"a\.json:1: int '1'; give a list of objects"),
        ('[{"a": 1}, {}]', r"a\.json:2: dict '\{\}'; give a list"),
        ('[{"a": 1} {"a": 2}]', r"a\.json:1: not JSON, a comma is missing behind row 1"),
        ('[{"a": 1}, {"a": ', r"a\.json:2: not JSON \(Expecting value"),
        ('[{"a": 1}] x', r"a\.json: not JSON, but more behind the list: 'x'"),
        ('{"a": 1}\n{"a": ', r"a\.json:2: not JSON"),
        ('"text"', r"a\.json: str '\"text\"'; give a list of objects"),
        ('{"data": [{"paragraphs": [{"qas": [{}]}]}]}', r"article 1 is not as SQuAD has it \(KeyError\('context'\)\)"),
        ("", r"a\.json: not JSON"),
    ],
)
def test_json_that_has_no_rows(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(TaskError, match=message):
        read_rows(tmp_path / "a.json")


def test_squad(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = [
        {"id": "1", "question": "who ?", "answers": [{"text": "Anna", "answer_start": 0}]},
        {"id": "2", "question": "why ?", "answers": [], "is_impossible": True},
    ]
    articles = [{"title": "Berlin", "paragraphs": [{"context": "Anna lives in Berlin .", "qas": asked}]}]
    (tmp_path / "train.json").write_text(json.dumps({"version": "v2.0", "data": articles}), encoding="utf-8")
    spec = TaskSpec(kind="question_answering", train="train.json", dev="train.json", no_answer=True)
    task = Task.read("t", spec, tmp_path)
    assert task.kind.gold(task.train) == [["Anna"], [""]]
    assert task.train[0]["id"] == "1" and task.train[0]["title"] == "Berlin"


CONLL = "-DOCSTART- -X- O\n\nAnna NNP B-PER\nflew VBD O\n\n# 7 is a number\n# NN O\n"


def test_conll(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(CONLL, encoding="utf-8")
    rows = read_rows(tmp_path / "a.conll")
    assert list(rows) == [{"tokens": ["Anna", "flew"], "tags": ["B-PER", "O"]}, {"tokens": ["#"], "tags": ["O"]}]
    assert [rows.place(n).line for n in range(2)] == [3, 7]
    (tmp_path / "b.conll").write_text("New\tB-LOC\nPort City\tI-LOC", encoding="utf-8")
    assert list(read_rows(tmp_path / "b.conll")) == [{"tokens": ["New", "Port City"], "tags": ["B-LOC", "I-LOC"]}]
    (tmp_path / "c.conll").write_text("a O\nb\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"c\.conll:2: 1 columns, and the lines before have 2; a line is a word"):
        read_rows(tmp_path / "c.conll")
    task = Task.read("t", TaskSpec(kind="tagging", train="a.conll", dev="a.conll"), tmp_path)
    assert task.labels == ("B-PER", "O")


def test_conll_u(tmp_path: Path) -> None:
    words = ["1\tI\ti\tPRON", "2-3\tdon't\t_\t_", "2\tdo\tdo\tAUX", "3\tn't\tnot\tPART", "3.1\tx\tx\tX"]
    (tmp_path / "a.conllu").write_text("# text = I don't\n" + "\n".join(words) + "\n\n", encoding="utf-8")
    assert list(read_rows(tmp_path / "a.conllu")) == [{"tokens": ["I", "do", "n't"], "tags": ["PRON", "AUX", "PART"]}]


def test_data_sets_saved_to_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    named = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features({"text": datasets.Value("string"), "label": named})

    def split(labels: list[int]) -> Any:
        return datasets.Dataset.from_dict({"text": list("abcd")[: len(labels)], "label": labels}, features=features)

    datasets.DatasetDict({"train": split([0, 1, 1]), "validation": split([1])}).save_to_disk(tmp_path / "both")
    split([1, 0]).select([1, 0]).save_to_disk(tmp_path / "one")
    task = Task.read("t", TaskSpec(data="both"), tmp_path)
    assert task.labels == ("no", "yes") and task.kind.gold(task.train) == ["no", "yes", "yes"] and len(task.dev) == 1
    assert str(task.dev.place(0)) == f"{tmp_path / 'both'} (validation):1"
    task = Task.read("t", TaskSpec(train="one", dev="one"), tmp_path)
    assert task.labels == ("no", "yes") and task.kind.gold(task.train) == ["no", "yes"]
    assert Task.read("t", TaskSpec(data="one", dev="one"), tmp_path).kind.gold(task.dev) == ["no", "yes"]
    assert list(read_rows(tmp_path / "one")) == [{"text": "b", "label": 0}, {"text": "a", "label": 1}]
    with pytest.raises(TaskError, match=r"both has train, validation; give data = FOLDER, or the folder of one"):
        read_rows(tmp_path / "both")
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(TaskError, match=r"one was saved by datasets and cannot be read by datasets .*save it again"):
        read_rows(tmp_path / "one")


def test_images_of_a_saved_data_set_are_not_fetched(tmp_path: Path) -> None:
    datasets, pillow = pytest.importorskip("datasets"), pytest.importorskip("PIL.Image")
    pillow.new("L", (4, 4), 255).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    images = [{"bytes": data, "path": None}, {"bytes": None, "path": "https://example.org/a.png"}]
    datasets.Dataset.from_dict({"image": images, "label": ["a", "b"]}).save_to_disk(tmp_path / "saved")
    info = json.loads((tmp_path / "saved" / "dataset_info.json").read_text())
    info["features"]["image"] = {"_type": "Image"}
    (tmp_path / "saved" / "dataset_info.json").write_text(json.dumps(info))
    task = Task.read("t", TaskSpec(kind="image_classification", train="saved", dev="saved"), tmp_path)
    with pytest.raises(TaskError, match=r"saved:2: .*there is no file .*https:/example\.org/a\.png"):
        task.features(task.train, None)
