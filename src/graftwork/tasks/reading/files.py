"""One file of rows: JSON lines, CSV, TSV (each also gzipped), Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graftwork.errors import TaskError
from graftwork.tasks.needs import needed
from graftwork.tasks.rows import Place, Row, Rows

_PLAIN = (".jsonl", ".csv", ".tsv")
ENDINGS = (*_PLAIN, *(f"{ending}.gz" for ending in _PLAIN), ".parquet")


def read_rows(path: str | Path) -> Rows:
    """The rows of a file, each with its line.

    JSON lines hold one object each. CSV and TSV begin with a line of column names; quotes mean something in CSV, and in
    TSV are characters like others, as in GLUE.

    Args:
        path: Its ending says what it is: ``.jsonl``, ``.csv``, ``.tsv``, each also with ``.gz``, or ``.parquet``.

    Raises:
        TaskError: If it is not there, empty, damaged, no UTF-8, or has a line that cannot be read.
    """
    path = Path(path)
    ending = next((e for e in ENDINGS if path.name.endswith(e)), None)
    if ending is None:
        raise TaskError(f"{path}: the ending says what a file is, and this is none of {', '.join(ENDINGS)}")
    if not path.is_file():
        raise TaskError(f"{path} is not there; {in_folder(path.parent)}")
    if ending == ".parquet":
        found = _parquet(path)
    else:
        lines = _jsonl if ".jsonl" in ending else _table
        found = list(lines(path, text_of(path)))
    if not found:
        raise TaskError(f"{path} is empty: it has no rows")
    return Rows([row for row, _ in found], [place for _, place in found])


def read_texts(path: str | Path) -> Rows:
    """The texts of a file, as rows with one column ``text``.

    Args:
        path: ``.txt`` or ``.txt.gz``, where every line that is not empty is a text; or a file of rows with such a column.

    Raises:
        TaskError: If it cannot be read, or has no texts.
    """
    path = Path(path)
    if not path.name.endswith((".txt", ".txt.gz")):
        rows = read_rows(path)
        for row, place in rows.placed():
            if not isinstance(row.get("text"), str):
                raise TaskError(f"{place}: no text; a row must have a column 'text', or give a .txt file")
        return rows
    if not path.is_file():
        raise TaskError(f"{path} is not there; {in_folder(path.parent)}")
    lines = [(line.strip(), n) for n, line in enumerate(text_of(path).split("\n"), 1) if line.strip()]
    if not lines:
        raise TaskError(f"{path} is empty: it has no texts")
    return Rows([{"text": line} for line, _ in lines], [Place(str(path), n) for _, n in lines])


def in_folder(folder: Path) -> str:
    """What there is in a folder, for a message about what is not."""
    if not folder.is_dir():
        return f"nor is the folder {folder}"
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"{folder} has {', '.join(names[:20]) or 'nothing'}{more}"


def text_of(path: Path) -> str:
    """The text of a file, unpacked where it ends in ``.gz``.

    Raises:
        TaskError: If it is damaged, or no UTF-8.
    """
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise TaskError(f"{path} is truncated or damaged ({error}); copy it again") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise TaskError(
            f"{path}:{line}: byte {byte} of the line, 0x{data[error.start]:02x}, is no UTF-8; "
            "save the file as UTF-8 (iconv -f latin1 -t utf-8, if it is Latin-1)"
        ) from error


def _jsonl(path: Path, text: str) -> Iterator[tuple[Row, Place]]:
    # split at line feeds only: splitlines() would also cut at U+2028, which may stand inside a JSON string
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = Place(str(path), number)
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TaskError(
                f"{place}: not JSON ({error}): {line[:60]!r}; every line must be one whole object"
            ) from error
        if not isinstance(row, dict):
            raise TaskError(f"{place}: {type(row).__name__} {line[:60]!r}; every line must be one object, {{...}}")
        yield row, place


def _table(path: Path, text: str) -> Iterator[tuple[Row, Place]]:
    tabs = ".tsv" in path.suffixes
    style: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, **style)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            place, line = Place(str(path), line), reader.line_num + 1
            if not header:
                header = _header(cells, place)
            elif cells and any(cells):
                yield _record(header, cells, place), place
    except csv.Error as error:
        raise TaskError(f"{path}:{line}: {error}; mend the line, or give JSON lines") from error


def _header(cells: list[str], place: Place) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TaskError(
            f"{place}: the column {twice[0]!r} stands there twice; the first line must name each column once"
        )
    return names


def _record(header: list[str], cells: list[str], place: Place) -> Row:
    if len(cells) != len(header):
        raise TaskError(
            f"{place}: {len(cells)} cells, and {len(header)} columns ({', '.join(header)}); quote what needs it"
        )
    return dict(zip(header, cells, strict=True))


def _parquet(path: Path) -> list[tuple[Row, Place]]:
    arrow, parquet = needed("pyarrow", "a .parquet file"), needed("pyarrow.parquet", "a .parquet file")
    try:
        rows = parquet.read_table(path).to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise TaskError(f"{path} is truncated, damaged or no Parquet ({error}); copy it again") from error
    return [(row, Place(str(path), number)) for number, row in enumerate(rows, 1)]
