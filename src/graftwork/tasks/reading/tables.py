"""Tables as text: CSV and TSV, with the separator and the quotes that the file has."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graftwork.errors import TaskError
from graftwork.tasks.rows import Place, Row

_SEPARATORS = (";", "\t", ",", "|")


def read_table(path: Path, text: str, usual: str) -> Iterator[tuple[Row, Place]]:
    """The rows of a table, each with its line; the first line names the columns (``usual``: the separator of its ending)."""
    header: list[str] = []
    for cells, place in read_cells(path, text, usual):
        if not header:
            header = _header(cells, place)
        elif any(cells):
            yield _row(header, cells, place), place


def read_cells(path: Path, text: str, usual: str) -> Iterator[tuple[list[str], Place]]:
    """The cells of each record of a table, and the line where it begins.

    The first line decides what separates cells. Quotes are syntax, except in a file with tabs where no program can have written
    them as such: in GLUE's files they are characters like others.
    """
    separator = _separator(text, usual)
    raw = separator == "\t" and not _quoted(text, separator)
    line = 1
    try:
        for cells, last in _records(text, delimiter=separator, quoting=csv.QUOTE_NONE if raw else csv.QUOTE_MINIMAL):
            yield cells, Place(str(path), line)
            line = last + 1
    except csv.Error as error:
        raise TaskError(f"{path}:{line}: {error}; mend the line, or give JSON lines") from error


def _records(text: str, **style: Any) -> Iterator[tuple[list[str], int]]:
    """The cells of each record, and its last line."""
    before = csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a document may be longer than 128 KiB
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, **style)
        for cells in reader:
            yield cells, reader.line_num
    finally:
        csv.field_size_limit(before)


def _separator(text: str, usual: str) -> str:
    """The separator of the first line: the usual one of the ending if the line has it, else the most frequent one."""
    found = re.match(r"[^\r\n]*", text)  # a split would copy the whole text
    first = found.group() if found else ""
    return usual if usual in first else max((usual, *_SEPARATORS), key=first.count)


def _quoted(text: str, separator: str) -> bool:
    """Whether a program has written the quotes of a table as syntax, so that they are not part of its texts.

    It has if every record can be read that way, and quotes are around either all texts, the first name included, or just those
    that need them: texts with a quote, a line feed, the separator, or for some programs a comma.
    """
    found = text.count('"')
    if not found:
        return False
    needed = with_commas = width = 0
    try:
        for cells, _ in _records(text, delimiter=separator):
            width = width or len(cells)
            if any(cells) and len(cells) != width:
                return False
            for cell in cells:
                quotes = 2 + 2 * cell.count('"')
                needs = quotes > 2 or separator in cell or "\n" in cell or "\r" in cell
                needed += quotes * needs
                with_commas += quotes * (needs or "," in cell)
    except csv.Error:
        return False
    return text.startswith('"') or found in (needed, with_commas)


def _header(cells: list[str], place: Place) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise TaskError(
            f"{place}: the column {twice[0]!r} stands there twice; the first line must name each column once"
        )
    return names


def _row(header: list[str], cells: list[str], place: Place) -> Row:
    if len(cells) != len(header):
        names = ", ".join(header[:20]) + ", ..." * (len(header) > 20)
        raise TaskError(f"{place}: {len(cells)} cells, and {len(header)} columns ({names}); quote what needs it")
    return dict(zip(header, cells, strict=True))
