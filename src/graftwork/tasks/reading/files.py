"""One file of rows or of texts, read as its ending says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from graftwork.errors import TaskError
from graftwork.tasks.reading.arrow import read_parquet, read_saved, rows_of, saved
from graftwork.tasks.reading.conll import read_conll
from graftwork.tasks.reading.paths import path_of, require_file
from graftwork.tasks.reading.records import read_json, read_lines
from graftwork.tasks.reading.tables import read_table
from graftwork.tasks.reading.text import text_of
from graftwork.tasks.rows import Place, Row, Rows

_TEXTUAL: dict[str, Callable[[Path, str], Iterator[tuple[Row, Place]]]] = {
    ".jsonl": read_lines,
    ".json": read_json,
    ".csv": lambda path, text: read_table(path, text, ","),
    ".tsv": lambda path, text: read_table(path, text, "\t"),
    ".conll": read_conll,
    ".conllu": read_conll,
}
ENDINGS = (*_TEXTUAL, *(f"{ending}.gz" for ending in _TEXTUAL), ".parquet")


def read_rows(path: str | Path) -> Rows:
    """The rows of a file, each with its line.

    JSON lines have one object each; JSON has a list of objects, or the articles of SQuAD. CSV and TSV begin with a line of
    column names; that line decides what separates cells, and the whole file decides whether quotes are syntax in a TSV. CoNLL
    has a word and its tag a line.

    Args:
        path: A file whose ending names its form: ``.jsonl``, ``.json``, ``.csv``, ``.tsv``, ``.conll``, ``.conllu``, each also
            with ``.gz``, or ``.parquet``; or a folder that ``save_to_disk`` of the library `datasets` has written.

    Raises:
        TaskError: If it is missing, empty, damaged, in another encoding than its mark says, or has a line that cannot be read.
    """
    path = path_of(path)
    if saved(path):
        splits = read_saved(path)
        if len(splits) > 1:
            raise TaskError(f"{path} has {', '.join(splits)}; give data = FOLDER, or the folder of one of them")
        return rows_of(next(iter(splits.values())), str(path), path)
    ending = next((e for e in ENDINGS if path.name.lower().endswith(e)), None)
    if ending is None:
        raise TaskError(
            f"{path}: the ending says what a file is, and this is none of {', '.join(ENDINGS)}; save it as one of them, or "
            "give it its ending"
        )
    require_file(path)
    parquet = ending == ".parquet"
    rows = Rows.from_pairs(read_parquet(path) if parquet else _TEXTUAL[ending.removesuffix(".gz")](path, text_of(path)))
    if not rows:
        raise TaskError(f"{path} is empty: it has no rows")
    return rows


def read_texts(path: str | Path) -> Rows:
    """The texts of a file, as rows with one column ``text``.

    A file ``.txt`` or ``.txt.gz`` has a text in every line that is not empty; any other file has rows with such a column.
    """
    path = path_of(path)
    if not path.name.endswith((".txt", ".txt.gz")):
        rows = read_rows(path)
        for row, place in rows.placed():
            if not isinstance(row.get("text"), str):
                raise TaskError(f"{place}: no text; a row must have a column 'text', or give a .txt file")
        return rows
    require_file(path)
    lines = enumerate(text_of(path).split("\n"), 1)
    texts = Rows.from_pairs(({"text": line.strip()}, Place(str(path), n)) for n, line in lines if line.strip())
    if not texts:
        raise TaskError(f"{path} is empty: it has no texts")
    return texts
