"""Triples of a knowledge graph: subject, predicate, object, each with its file and line."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from graftwork.errors import TaskError
from graftwork.tasks.reading.files import read_rows
from graftwork.tasks.reading.paths import path_of, require_file
from graftwork.tasks.reading.tables import read_cells
from graftwork.tasks.reading.text import text_of
from graftwork.tasks.rows import Place

PARTS = ("subject", "predicate", "object")
ENDINGS = (".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz")


@dataclasses.dataclass(frozen=True)
class Triple:
    """One edge of a graph; its place does not count when triples are compared.

    Attributes:
        subject: The node where the edge begins.
        predicate: The relation.
        object: The node where it ends.
        place: The file and line.
    """

    subject: str
    predicate: str
    object: str
    place: Place = dataclasses.field(default=Place("triples in memory"), compare=False)


def read_triples(path: str | Path) -> list[Triple]:
    """The triples of a file, each once, in the file's order.

    Args:
        path: ``.tsv`` with three columns, with or without a first line ``subject  predicate  object``; or ``.jsonl`` with
            an object of these three a line. Each also with ``.gz``.

    Raises:
        TaskError: If the file cannot be read, or a line is no triple.
    """
    path = path_of(path)
    if not path.name.endswith(ENDINGS):
        raise TaskError(
            f"{path}: triples are read from files that end in {', '.join(ENDINGS)}; rename the file, or rewrite it"
        )
    require_file(path)
    found = list(dict.fromkeys(_jsonl(path) if ".jsonl" in path.suffixes else _tsv(path)))
    if not found:
        raise TaskError(f"{path} has no triples; give lines of subject, predicate and object")
    return found


def hold_out_triples(triples: Sequence[Triple], share: float, seed: int = 0) -> tuple[list[Triple], list[Triple]]:
    """Two parts: to train on, and held out.

    The subject, predicate and object of a triple that is held out all occur in the first part too.

    Args:
        triples: All triples.
        share: The largest share that is held out, 0 for none.
        seed: The seed of the draw.
    """
    counts = Counter(part for triple in triples for part in _parts(triple))
    order = list(range(len(triples)))
    random.Random(seed).shuffle(order)
    held_out: set[int] = set()
    for index in order:
        if len(held_out) + 1 > share * len(triples):
            break
        parts = Counter(_parts(triples[index]))
        if all(counts[part] > count for part, count in parts.items()):
            counts -= parts
            held_out.add(index)
    train = [triple for n, triple in enumerate(triples) if n not in held_out]
    return train, [triple for n, triple in enumerate(triples) if n in held_out]


def _parts(triple: Triple) -> list[tuple[str, str]]:
    return [("node", triple.subject), ("predicate", triple.predicate), ("node", triple.object)]


def _tsv(path: Path) -> Iterator[Triple]:
    for number, (found, place) in enumerate(read_cells(path, text_of(path), "\t")):
        cells = [cell.strip() for cell in found]
        if not any(cells) or (number == 0 and tuple(cell.lower() for cell in cells) == PARTS):
            continue
        if len(cells) != len(PARTS):
            raise TaskError(
                f"{place}: {len(cells)} cells in {chr(9).join(found)[:60]!r}; a line must be subject, predicate and object with a "
                "tab between them"
            )
        yield _triple(dict(zip(PARTS, cells, strict=True)), place)


def _jsonl(path: Path) -> Iterator[Triple]:
    for row, place in read_rows(path).placed():
        missing = [part for part in PARTS if part not in row]
        if missing:
            raise TaskError(
                f"{place}: no {missing[0]!r}; the line has {', '.join(map(repr, row)) or 'nothing'}, and must have "
                "subject, predicate and object"
            )
        yield _triple(row, place)


def _triple(row: dict[str, object], place: Place) -> Triple:
    for part in PARTS:
        value = row[part]
        if not isinstance(value, str) or not value.strip():
            raise TaskError(f"{place}: the {part} is {value!r}; it must be a text that is not empty")
    subject, predicate, object_ = (str(row[part]).strip() for part in PARTS)
    return Triple(subject, predicate, object_, place)
