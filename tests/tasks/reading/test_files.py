"""Files of rows: every form is read alike, and what cannot be read says which line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from graftwork.errors import TaskError
from graftwork.tasks import read_rows

ROWS = [{"text": 'He said: "a, b"', "label": "1"}, {"text": "zwei\u2028Zeilen ü", "label": "0"}]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n"


def written(folder: Path, name: str, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder / name


CSV = 'text,label\n"He said: ""a, b""",1\nzwei\u2028Zeilen ü,0\n'
TSV = 'text\tlabel\nHe said: "a, b"\t1\nzwei\u2028Zeilen ü\t0\n'


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.jsonl", LINES, [1, 2]),
        ("a.jsonl.gz", LINES, [1, 2]),
        ("a.jsonl", "\n" + LINES.replace("\n", "\r\n\r\n"), [2, 4]),
        ("a.jsonl", "\ufeff" + LINES, [1, 2]),
        ("a.csv", CSV, [2, 3]),
        ("a.csv", CSV.replace("\n", "\r\n"), [2, 3]),
        ("a.csv.gz", CSV, [2, 3]),
        ("a.tsv", TSV, [2, 3]),
        ("a.tsv.gz", TSV, [2, 3]),
    ],
)
def test_every_form_is_read_alike(tmp_path: Path, name: str, text: str, lines: list[int]) -> None:
    path = written(tmp_path, name, text)
    rows = read_rows(path)
    assert list(rows) == ROWS
    assert [rows.place(n) for n in range(len(rows))] == [(str(path), line) for line in lines]


def test_parquet(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    rows = read_rows(tmp_path / "a.parquet")
    assert list(rows) == ROWS
    assert str(rows.place(1)) == f"{tmp_path / 'a.parquet'}:2"
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(TaskError, match=r"b\.parquet is truncated, damaged or no Parquet"):
        read_rows(tmp_path / "b.parquet")


def test_a_row_of_several_lines_is_where_it_begins(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path, "a.csv", 'text,label\n"one\ntwo",1\nthree,0\n'))
    assert [row["text"] for row in rows] == ["one\ntwo", "three"]
    assert [rows.place(n).line for n in range(2)] == [2, 4]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "", r"a\.jsonl is empty: it has no rows"),
        ("a.jsonl", "\n \n", "is empty"),
        ("a.csv", "text,label\n", "is empty"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', r"a\.jsonl:2: not JSON .*every line must be one whole object"),
        ("a.jsonl", '{"a": 1}\n["b"]\n', r"a\.jsonl:2: list .*one object"),
        ("a.jsonl", '{"a": "x"}\n{"a": "é"}\n'.encode("latin-1"), r"a\.jsonl:2: byte 8 .*0xe9, is no UTF-8; save"),
        ("a.csv", "a,a\n1,2\n", r"a\.csv:1: the column 'a' stands there twice"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", r"a\.csv:3: 3 cells, and 2 columns \(a, b\)"),
        ("a.csv", 'a,b\n1,2\n"1,2\n', r"a\.csv:3: unexpected end of data"),
        ("a.tsv", "a\tb\n1\n", r"a\.tsv:2: 1 cells, and 2 columns"),
        ("a.txt", "x", r"a\.txt: the ending says .* none of \.jsonl"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        read_rows(written(tmp_path, name, text))


def test_a_compressed_file_that_is_cut_off(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl.gz", LINES)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(TaskError, match=r"a\.jsonl\.gz is truncated or damaged .*copy it again"):
        read_rows(path)
    path.write_bytes(b"plain text")
    with pytest.raises(TaskError, match="truncated or damaged"):
        read_rows(path)


def test_a_file_that_is_not_there_says_what_is(tmp_path: Path) -> None:
    written(tmp_path, "training.jsonl", LINES)
    with pytest.raises(TaskError, match=r"train\.jsonl is not there; .* has training\.jsonl"):
        read_rows(tmp_path / "train.jsonl")
    with pytest.raises(TaskError, match=r"is not there; nor is the folder"):
        read_rows(tmp_path / "no" / "train.jsonl")
