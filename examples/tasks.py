"""Tasks on disk: folders of JSON lines, `{"text", "text_pair"?, "label"}`, beside a `meta.json` with label names."""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclasses.dataclass
class Task:
    """One classification task.

    Attributes:
        name: The folder's name.
        labels: The names of the labels, in the order of their numbers.
        train: The rows to learn from.
        held_out: Rows of the training file that nothing learns from: they say when to stop.
        dev: The rows to report on. Nothing is chosen by them.
    """

    name: str
    labels: list[str]
    train: list[Row]
    held_out: list[Row]
    dev: list[Row]

    @property
    def majority(self) -> float:
        """The accuracy on dev of always giving its commonest label."""
        numbers = [row["label"] for row in self.dev]
        return max(numbers.count(number) for number in set(numbers)) / len(numbers)


def read_task(folder: Path, rows: int | None = None, held_out: float = 0.15, seed: int = 0) -> Task:
    """Read one task, with at most `rows` rows from its training file."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    for row in (train := read_rows(folder, "train")):
        if not isinstance(row.get("text"), str) or not isinstance(row["label"], int):
            raise SystemExit(f"{folder.name}: not a classification of texts (text, text_pair?, label): {row}")
    random.Random(seed).shuffle(train)
    kept, apart = set_apart(train[:rows], held_out, seed)
    return Task(folder.name, meta["labels"], kept, apart, read_rows(folder, "dev"))


def read_rows(folder: Path, split: str) -> list[Row]:
    """The rows of `<split>.jsonl`, or of `<split>.jsonl.gz`."""
    plain = folder / f"{split}.jsonl"
    if plain.exists():
        lines = plain.read_text(encoding="utf-8").splitlines()
    else:
        with gzip.open(f"{plain}.gz", "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
    return [json.loads(line) for line in lines]


def set_apart(rows: list[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Two parts of the rows; rows with the same first text stay together, or the second part would be too easy."""
    texts = sorted({row["text"] for row in rows})
    random.Random(seed).shuffle(texts)
    apart: set[str] = set()
    groups: dict[str, int] = {}
    for row in rows:
        groups[row["text"]] = groups.get(row["text"], 0) + 1
    taken = 0
    for text in texts:
        if taken >= share * len(rows):
            break
        apart.add(text)
        taken += groups[text]
    return [row for row in rows if row["text"] not in apart], [row for row in rows if row["text"] in apart]


def encode(rows: list[Row], tokenizer: Any, max_length: int) -> list[dict[str, Any]]:
    """The rows as a model takes them, not yet padded."""
    pairs = [row["text_pair"] for row in rows] if rows and "text_pair" in rows[0] else None
    tokens = tokenizer([row["text"] for row in rows], pairs, truncation=True, max_length=max_length)
    return [{**{key: tokens[key][n] for key in tokens}, "labels": row["label"]} for n, row in enumerate(rows)]
