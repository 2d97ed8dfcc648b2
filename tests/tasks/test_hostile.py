"""Files made to do harm: the library's own error, soon, and in little memory; nothing in a file is run or fetched."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graftwork.errors import TaskError
from graftwork.experiments.costing.costs import forget_highest, highest_memory
from graftwork.tasks import Task, TaskSpec

MIB = 1 << 20


def refused(spec: TaskSpec, root: Path, message: str, file: Path) -> None:
    """What reading the task says, in memory of ten times the file and 64 MiB at most."""
    forget_highest()
    before = highest_memory()
    with pytest.raises(TaskError, match=message):
        task = Task.read("t", spec, root)
        task.features(task.train, None)
    assert highest_memory() - before < 10 * file.stat().st_size + 64 * MIB


def png(width: int, height: int) -> bytes:
    """A grey image, all black, without its pixels in memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bomb(path: Path, size: int = 60 * MIB) -> None:
    with gzip.open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(b"a" * MIB)


TEXTS: list[tuple[str, str, str, str]] = [
    ("deep lines", "a.jsonl", "[" * 3_000_000, r"a\.jsonl:1: not JSON \(it is nested too deeply\)"),
    ("deep objects", "a.jsonl", '{"a":' * 1_000_000, r"a\.jsonl:1: not JSON \(it is nested too deeply\)"),
    ("deep list", "a.json", "[" * 3_000_000, r"a\.json:1: not JSON \(it is nested too deeply\)"),
    ("empty lists", "a.json", "[" + "[]," * 3_000_000, r"a\.json:1: list '\[\]'"),
    ("empty objects", "a.json", "[" + "{}," * 3_000_000, r"a\.json:1: dict '\{\}'"),
    ("huge number", "a.jsonl", '{"text": "a", "label": ' + "1" * 100_000 + "}", r"a\.jsonl:1: not JSON \(Exceeds"),
    ("half a character", "a.jsonl", r'{"text": "\ud800", "label": "a"}', r"a\.jsonl:1: '\\ud800' is half a character"),
    ("half a label", "a.json", r'[{"text": "a", "label": "\udfff"}]', r"a\.json:1: '\\udfff' is half a character"),
    ("many columns", "a.csv", ",".join(map(str, range(200_000))) + "\n1", r"a\.csv:2: 1 cells, and 200000 columns"),
    ("NUL", "a.csv", "text,label\n\0,1\n", "a.csv has NUL characters"),
]


@pytest.mark.parametrize(("name", "text", "message"), [case[1:] for case in TEXTS], ids=[case[0] for case in TEXTS])
def test_texts(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    refused(TaskSpec(train=name), tmp_path, message, tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("regression", {"text": "a", "label": 10**400}, "it must be a number"),
        ("classification", {"text": "a", "label": [[[]]]}, "must be a name or a whole number"),
        ("multi_label", {"text": "a", "label": "[" * 100_000}, "it is not JSON"),
        ("multiple_choice", {"text": "a", "choices": ["a", "b"], "label": 10**400}, "it must be a number"),
        ("tagging", {"tokens": "[" * 100_000, "tags": "O B"}, "it is not JSON"),
        (
            "question_answering",
            {"question": "a", "context": "b", "answers": {"text": ["b"], "answer_start": [float("inf")]}},
            "the start inf is no whole number",
        ),
    ],
)
def test_cells(tmp_path: Path, kind: str, row: dict[str, Any], message: str) -> None:
    (tmp_path / "a.jsonl").write_text((json.dumps(row) + "\n") * 2, encoding="utf-8")
    refused(TaskSpec(kind=kind, train="a.jsonl"), tmp_path, rf"a\.jsonl:1: .*{message}", tmp_path / "a.jsonl")


def test_numbers_of_thousands_of_digits_are_names(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": int("1" * 4000)}, {"text": "b", "label": 2}]
    assert Task.from_rows("t", TaskSpec(), rows, rows).labels == ("2", "1" * 4000)
    with pytest.raises(TaskError, match=r"1111\.\.\. is none of the 2 labels"):
        Task.from_rows("t", TaskSpec(labels=("a", "b")), rows, rows)


@pytest.mark.parametrize("ending", [".jsonl.gz", ".csv.gz"])
def test_what_unpacks_a_thousandfold(tmp_path: Path, ending: str) -> None:
    bomb(tmp_path / f"a{ending}")
    refused(TaskSpec(train=f"a{ending}"), tmp_path, "unpacks to more than 40 times as many", tmp_path / f"a{ending}")


def test_a_text_file_that_unpacks_a_thousandfold(tmp_path: Path) -> None:
    from graftwork.tasks.reading import read_texts

    bomb(tmp_path / "a.txt.gz", 20 * MIB)
    with pytest.raises(TaskError, match="unpacks to more than 40 times as many"):
        read_texts(tmp_path / "a.txt.gz")


def parquet_of(path: Path, make: Callable[[Any], Any]) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(make(pyarrow)), path)


def not_utf8(pyarrow: Any) -> Any:
    offsets, data = pyarrow.py_buffer(struct.pack("<ii", 0, 2)), pyarrow.py_buffer(b"\xff\xfe")
    return {"text": pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, offsets, data]), "label": ["a"]}


def one_word(pyarrow: Any) -> Any:
    return {"text": pyarrow.repeat(pyarrow.scalar("word"), 5_000_000)}


def long_word(pyarrow: Any) -> Any:
    return {"text": pyarrow.array(["a" * 100_000] * 1000 + ["b"])}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (not_utf8, r"a\.parquet is truncated, damaged or no Parquet \('utf-8' codec"),
        (one_word, r"a\.parquet has .* bytes and unpacks to more than 40 times as many"),
        (long_word, r"a\.parquet has .* bytes and unpacks to more than 40 times as many"),
    ],
)
def test_parquet(tmp_path: Path, make: Callable[[Any], Any], message: str) -> None:
    parquet_of(tmp_path / "a.parquet", make)
    refused(TaskSpec(train="a.parquet"), tmp_path, message, tmp_path / "a.parquet")


@pytest.mark.filterwarnings("ignore::Warning")  # Pillow warns of one of them, and refuses the other
@pytest.mark.parametrize(
    ("size", "message"), [(12_000, "unpacks to more than 40 times as many"), (14_000, "it cannot be read .*exceeds")]
)
def test_images(tmp_path: Path, size: int, message: str) -> None:
    pytest.importorskip("PIL.Image")
    (tmp_path / "a.png").write_bytes(png(size, size))
    (tmp_path / "a.jsonl").write_text('{"image": "a.png", "label": 0}\n{"image": "a.png", "label": 1}\n')
    spec = TaskSpec(kind="image_classification", train="a.jsonl", dev="a.jsonl")
    refused(spec, tmp_path, rf"a\.jsonl:1.* {message}", tmp_path / "a.png")


@pytest.mark.parametrize("value", ["a.eps", "x" * 300, "\0", "~nobody-at-all/x.png", "."])
def test_paths_of_images(tmp_path: Path, value: str) -> None:
    pytest.importorskip("PIL.Image")
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    rows = [{"image": str(tmp_path / value) if value == "a.eps" else value, "label": n} for n in range(2)]
    with pytest.raises(TaskError, match=r"cannot be read|there is no file|leads nowhere"):
        task = Task.from_rows("t", TaskSpec(kind="image_classification"), rows, rows)
        task.features(task.train, None)


@pytest.mark.parametrize("value", ["x" * 300, "\0", "~nobody-at-all/x.csv", "a/" * 3000])
@pytest.mark.parametrize("key", ["train", "data", "dev"])
def test_paths_of_files(tmp_path: Path, value: str, key: str) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,0\nb,1\n")
    with pytest.raises(TaskError, match=r"is not there|leads nowhere|the Hub gives nothing|the ending says"):
        Task.read("t", TaskSpec(**{"train": "a.csv" if key != "data" else None, key: value}), tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.conll", "a.jsonl.gz", "a.parquet", "saved"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    """A byte changed, left out or put in somewhere: rows, or the library's own error."""
    rows = [{"text": f'a "{n}", b', "tokens": ["a", "b"], "tags": ["O", "B-X"], "label": "xy"[n % 2]} for n in range(6)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    texts = {
        "a.jsonl": lines,
        "a.json": json.dumps(rows),
        "a.csv": "text,label\n" + '"a ""1"", b",x\nc,y\n' * 3,
        "a.tsv": "text\tlabel\n" + '"a ""1"", b"\tx\nc\ty\n' * 3,
        "a.conll": "a O\nb B-X\n\n" * 6,
    }
    path = tmp_path / name
    if name == "saved":
        pytest.importorskip("datasets").Dataset.from_list(rows).save_to_disk(path)
        path = next(path.glob("*.arrow"))
    elif name == "a.parquet":
        parquet_of(path, lambda pyarrow: {key: [row[key] for row in rows] for key in rows[0]})
    else:
        path.write_bytes(gzip.compress(lines.encode()) if name.endswith(".gz") else texts[name].encode())
    whole, draw = path.read_bytes(), random.Random(0)
    for _ in range(60):
        at, data = draw.randrange(len(whole)), bytearray(whole)
        change = draw.choice(["flip", "cut", "put"])
        if change == "flip":
            data[at] ^= 1 << draw.randrange(8)
        elif change == "cut":
            del data[at : at + draw.randrange(1, 40)]
        else:
            data[at:at] = draw.choice([b"[", b"{", b'"', b"\0", b"\xff", b"1e999", b"\\ud800", b"null", b"\n"])
        path.write_bytes(bytes(data))
        with contextlib.suppress(TaskError):
            Task.read("t", TaskSpec(kind="tagging" if "conll" in name else "classification", train=name), tmp_path)
