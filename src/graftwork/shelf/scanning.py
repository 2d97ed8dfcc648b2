"""Folders that hold adapters, found below others, each with a stamp that changes when its files do; nothing is read."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from graftwork.checkpoint.adapterhub.files import ADAPTER, FUSION, HEAD, SETUP
from graftwork.checkpoint.json_files import MANIFEST
from graftwork.shelf.runs import RECIPE, RESULT, UNITS, WHILE_TRAINED

# A file by which a folder is known; peft's has the name of AdapterHub's.
_MARKERS = {MANIFEST, SETUP, ADAPTER.config, FUSION.config, HEAD.config}
_WHOLE = {MANIFEST, SETUP}  # whose inner folders are parts of it
_DEEPEST = 32


@dataclasses.dataclass(frozen=True)
class Found:
    """A folder that holds an adapter, or would if it could be read.

    Attributes:
        folder: The folder.
        stamp: A text that changes when its files, or those of the run around it, do.
        damage: Why it cannot be read; ``None`` where nothing is known against it.
    """

    folder: str
    stamp: str
    damage: str | None = None


def scan(roots: Iterable[Path]) -> Iterator[Found]:
    """Yield the folders with adapters in some folders, each once. Links to folders are not followed, hidden ones left out."""
    inside = [os.path.realpath(root) for root in roots]
    seen: set[str] = set()
    for root in inside:
        for found in _scan(root, root, inside, 0, ""):
            if found.folder not in seen:
                seen.add(found.folder)
                yield found


def _scan(folder: str, root: str, inside: list[str], depth: int, around: str) -> Iterator[Found]:
    """Go through one folder; ``around`` is the stamp of the run that it is in, empty outside of one."""
    try:
        with os.scandir(folder) as entries:
            here = sorted(entries, key=lambda entry: entry.name)
        files = {entry.name: entry for entry in here if entry.is_file()}
    except OSError as error:
        yield Found(folder, "", f"it cannot be read: {error.strerror or error}")
        return
    markers = _MARKERS & files.keys()
    if markers:
        yield _stamped(folder, inside, around)
    if _WHOLE & markers:
        return
    folders = [entry for entry in here if not entry.name.startswith(".") and entry.name not in files]
    in_run = bool(around)
    for name in {RECIPE, RESULT} & files.keys():
        if in_run or UNITS in {entry.name for entry in folders}:
            around += _stamp(name, files[name])
    for entry in folders:
        if in_run and entry.name in WHILE_TRAINED:
            continue
        if entry.is_symlink():
            yield from _link(entry, inside)
        elif entry.is_dir(follow_symlinks=False):
            if depth == _DEEPEST:
                yield Found(
                    entry.path, "", f"it is more than {_DEEPEST} folders below {root}; give a folder nearer to it"
                )
            else:
                yield from _scan(entry.path, root, inside, depth + 1, around)


def _stamped(folder: str, inside: list[str], around: str) -> Found:
    """A folder with the stamp of its files, and of those in its inner folders; refused where one leads elsewhere."""
    stamp, todo = around, [(folder, "")]
    try:
        while todo:
            path, start = todo.pop()
            with os.scandir(path) as entries:
                here = sorted(entries, key=lambda entry: entry.name)
            for entry in here:
                if entry.is_symlink() and not _is_inside(os.path.realpath(entry.path), inside):
                    where = f"{start}{entry.name} leads to {os.path.realpath(entry.path)}"
                    return Found(folder, "", f"{where}, outside of the folders that were given; give that folder too")
                if entry.is_file():
                    stamp += _stamp(f"{start}{entry.name}", entry)
                elif (
                    entry.is_dir(follow_symlinks=False) and start.count("/") < 2
                ):  # a composition's parts are two below it
                    todo.append((entry.path, f"{start}{entry.name}/"))
    except OSError as error:
        return Found(folder, "", f"it cannot be read: {error.strerror or error}")
    return Found(folder, stamp)


def _stamp(name: str, entry: os.DirEntry[str]) -> str:
    stat = entry.stat()
    return f"{name}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino};"


def _link(entry: os.DirEntry[str], inside: list[str]) -> Iterator[Found]:
    """Tell of a link to an adapter outside; one inside is met at its own place."""
    target = os.path.realpath(entry.path)
    if not _is_inside(target, inside) and any((Path(target) / name).is_file() for name in _MARKERS):
        why = f"it is a link to {target}, outside of the folders that were given; give that folder too"
        yield Found(entry.path, "", why)


def _is_inside(path: str, inside: list[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in inside)
