"""Hashes of what a training depends on: files, the rows of a task, the base and its tokenizer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from graftwork.experiments.planning.tables import BaseTable
from graftwork.experiments.running.base import find_model
from graftwork.tasks import Rows, Task

_PIECE = 1 << 20
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")  # transformers takes the first form that is there
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
# Of tokenizers that have no tokenizer.json.
_SLOW = ("vocab*", "merges*", "*.model", "*.vocab", "added_tokens.json", "special_tokens_map.json")
_PROCESSOR = ("*processor*.json",)


def hash_file(path: Path) -> str:
    """The SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()


def hash_json(value: Any) -> str:
    """The SHA-256 of JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def hash_files(folder: Path, paths: Iterable[Path] | None = None) -> dict[str, str]:
    """The SHA-256 of files by their path in a folder, by default of all that are in it."""
    chosen = (path for path in folder.rglob("*") if path.is_file()) if paths is None else paths
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in sorted(chosen)}


def hash_rows(task: Task) -> str:
    """The SHA-256 of a task's labels and the cells of its rows; of the content of images that are files."""
    found = hashlib.sha256(json.dumps(list(task.labels)).encode())
    splits = {"train": task.train, "dev": task.dev, "test": task.test, **task.elsewhere}
    for name, rows in splits.items():
        found.update(json.dumps(name).encode())
        for cells in _cells(task, rows) if rows is not None else ():
            found.update(json.dumps(cells, default=_plain).encode() + b"\n")
    return found.hexdigest()


def hash_base(table: BaseTable, root: Path) -> str | None:
    """The SHA-256 of a base's configuration and weights; ``None`` where its weights are not on this machine yet."""
    folder = _folder(table.model, table.revision, root, "config.json")
    weights = next((found for pattern in _WEIGHTS if (found := _matching(folder, (pattern,)))), None)
    return None if weights is None else hash_json(hash_files(folder, [*_matching(folder, ("config.json",)), *weights]))


def hash_tokenizer(table: BaseTable, root: Path) -> str:
    """The SHA-256 of the files of a base's tokenizer, or of its processor of images."""
    folder = _folder(table.tokenizer or table.model, table.revision, root, "config.json", *_TOKENIZER)
    files = _matching(folder, (*_TOKENIZER, *_PROCESSOR))
    slow = [] if folder / _TOKENIZER[0] in files else _matching(folder, _SLOW)
    return hash_json(hash_files(folder, {*files, *slow}))


def _folder(name: str, revision: str | None, root: Path, *files: str) -> Path:
    """Where the files of a model are: the folder itself, or the snapshot of a repository of the Hub."""
    where = Path(find_model(name, root))
    if where.is_dir():
        return where
    for file in files:
        try:
            found = cached_file(name, file, revision=revision)
        except OSError:  # a repository without it
            continue
        return Path(str(found)).parent
    return where


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]


def _cells(task: Task, rows: Rows) -> Iterator[list[tuple[str, Any]]]:
    """The cells of each row, with the hash of an image's file instead of its path, which may differ on another machine."""
    image = getattr(task.spec, "image", None) if task.kind.processor == "image" else None
    for row, place in rows.placed():
        value = row.get(image) if image is not None else None
        if isinstance(value, (str, os.PathLike)):
            row = {**row, str(image): hash_file(Path(place.file).parent / Path(value).expanduser())}
        yield list(row.items())


def _plain(value: Any) -> str:
    """A cell that is no JSON value (bytes, an array, an image, a tensor, a date), as text."""
    value = value.numpy() if hasattr(value, "numpy") else value
    if hasattr(value, "tobytes"):
        form = [str(getattr(value, key, "")) for key in ("mode", "size", "dtype", "shape")]
        value = json.dumps(form).encode() + value.tobytes()
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)
