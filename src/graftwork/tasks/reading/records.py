"""Rows as JSON: one object a line, a list of objects, or the articles of SQuAD."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graftwork.errors import TaskError
from graftwork.tasks.rows import Place, Row

_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder()
_FORM = 'give a list of objects, [{"text": ...}, ...], or one object a line (df.to_json(path, orient="records", lines=True))'


def read_lines(path: Path, text: str) -> Iterator[tuple[Row, Place]]:
    """The rows of JSON lines, each with its line."""
    # split at line feeds only: splitlines() would also cut at U+2028, which may be inside a JSON string
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = Place(str(path), number)
        row, end = _decoded(line, _after_space(line, 0), place, "every line must be one whole object")
        if line[end:].strip():
            raise TaskError(f"{place}: not JSON, but more after it: {line[end : end + 60]!r}; one line is one object")
        yield _checked(row, line, place, "every line must be one object, {...}"), place


def read_json(path: Path, text: str) -> Iterator[tuple[Row, Place]]:
    """The rows of a JSON file: lines, a list, an object that has one list of objects (``{"data": [...]}``), or SQuAD's form.

    Each has its line where there are lines, else its number.
    """
    start = _after_space(text, 0)
    if text.startswith("[", start):
        yield from _listed(path, text, _after_space(text, start + 1))
        return
    whole, end = _decoded(text, start, Place(str(path)), _FORM)
    if _after_space(text, end) < len(text):
        yield from read_lines(path, text)
        return
    for number, row in enumerate(_inside(path, _checked(whole, text, Place(str(path)), _FORM)), 1):
        yield row, Place(str(path), number)


def _listed(path: Path, text: str, at: int) -> Iterator[tuple[Row, Place]]:
    """The objects of a list, decoded one by one, so that the first value that is no object ends the reading."""
    number = 0
    while not text.startswith("]", at):
        number += 1
        place = Place(str(path), number)
        value, end = _decoded(text, at, place, _FORM)
        yield _checked(value, text[at:end], place, _FORM), place
        at = _after_space(text, end)
        if not text.startswith((",", "]"), at):
            raise TaskError(
                f"{place}: not JSON, a comma is missing behind row {number}, or the end; copy the file again"
            )
        at = _after_space(text, at + 1) if text.startswith(",", at) else at
    end = _after_space(text, at + 1)
    if end < len(text):
        raise TaskError(f"{path}: not JSON, but more behind the list: {text[end : end + 60]!r}; {_FORM}")


def _inside(path: Path, row: Row) -> list[Row]:
    """The rows in an object that is the whole file."""
    lists = [v for v in row.values() if isinstance(v, list) and v and all(isinstance(one, dict) for one in v)]
    if len(lists) == 1:
        nested = any("paragraphs" in one or "qas" in one for one in lists[0])
        return _questions(path, lists[0]) if nested else lists[0]
    if all(isinstance(value, (dict, list)) for value in row.values()):
        raise TaskError(f"{path}: one object with {', '.join(map(repr, list(row)[:5]))}, which are no rows; {_FORM}")
    return [row]


def _questions(path: Path, articles: list[Row]) -> list[Row]:
    """A row a question, of articles with paragraphs as SQuAD has them."""
    rows: list[Row] = []
    for number, article in enumerate(articles, 1):
        try:
            for paragraph in article.get("paragraphs", [article]):
                for question in paragraph["qas"]:
                    context = {"title": article.get("title"), "context": paragraph["context"]}
                    rows.append({**question, **context, "answers": question.get("answers")})
        except (KeyError, TypeError, AttributeError) as error:
            raise TaskError(
                f'{path}: article {number} is not as SQuAD has it ({error!r}): {{"paragraphs": [{{"context": ..., "qas": '
                '[{"question": ..., "answers": [...]}]}]}; mend it, or give one object a question'
            ) from error
    return rows


def _decoded(text: str, at: int, place: Place, form: str) -> tuple[Any, int]:
    """The value at a position of a text, and where it ends."""
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise TaskError(f"{place}: not JSON ({why}): {text[at : at + 60]!r}; {form}") from error


def _checked(value: Any, text: str, place: Place, form: str) -> Row:
    if not isinstance(value, dict) or not value:
        raise TaskError(f"{place}: {type(value).__name__} {text[:60]!r}; {form}")
    if "\\u" in text:  # an escape may be half of a character, which no tokenizer takes and no file keeps
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise TaskError(
                f"{place}: {error.object[error.start]!r} is half a character; correct it, or take the row out"
            ) from error
    return value


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
