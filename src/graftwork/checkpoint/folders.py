"""Folders on disk: written aside and renamed, read whole or not at all.

A folder that is replaced is first renamed to a fixed name beside it, then the new one takes its place, then the old one
is deleted. Whatever moment a crash picks, the old or the new folder is complete; between the two renames the old one is
found under the other name, by `existing`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.errors import CheckpointError

MANIFEST = "graftwork.json"
TENSORS = {kind: f"{kind}.safetensors" for kind in ("adapter", "fusion", "head", "base")}
_PART = r"(?:graftwork\.json|(?:adapter|fusion|head|base)\.safetensors)"
_OURS = re.compile(rf"{_PART}|(?:adapters|fusions|heads)(?:/\d+(?:/{_PART})?)?")
_LONGEST = 100


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files (by their path inside) to a folder that is not there yet, is empty, or is one of ours.

    Returns:
        The folder.

    Raises:
        CheckpointError: If something else is there.
    """
    folder = _real(folder)
    aside = _beside(folder, f"{uuid.uuid4().hex}.new")
    old = _beside(folder, "old")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        for path, data in files.items():
            _write(aside / path, data)
        _sync_folders(aside)
        if old.exists() and not folder.exists():  # a crash between the two renames
            old.rename(folder)
        if folder.exists():
            _require_ours(folder)
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        try:
            aside.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise
        _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def replace_file(path: Path, data: bytes) -> None:
    """Write one file aside and rename it to its place."""
    path = _real(path)
    aside = _beside(path, f"{uuid.uuid4().hex}.new")
    try:
        _write(aside, data)
        aside.replace(path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def existing(folder: Path) -> Path:
    """The folder, or what a crash left of it while it was being replaced.

    Raises:
        CheckpointError: If there is none.
    """
    if folder.is_dir():
        return folder
    old = _beside(_real(folder), "old")
    if folder.exists() or not old.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise CheckpointError(f"{folder} {what}; give the folder that `save` made")
    warnings.warn(
        f"{folder} was being replaced when the process ended; what it held before is read from {old}", stacklevel=3
    )
    return old


def read_manifest(folder: Path) -> dict[str, Any]:
    """The JSON of a folder of ours, its format known to be readable.

    Raises:
        CheckpointError: If the folder is none of ours, or the JSON is damaged or of a newer format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
        hint = "; it is a folder of peft: load it with peft" if (folder / "adapter_config.json").exists() else ""
        raise CheckpointError(f"{folder} has no {MANIFEST}, so `save` did not make it (it holds {found}){hint}")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is damaged: it holds {type(data).__name__}, not an object")
    return data


def dump(data: Mapping[str, Any]) -> bytes:
    """JSON as it is written."""
    return (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _require_ours(folder: Path) -> None:
    """Refuse to replace a folder that holds anything that `save` did not write."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; give another folder")
    inside = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))
    foreign = [path for path in inside if not _OURS.fullmatch(path)]
    if foreign or (inside and MANIFEST not in inside):
        what = ", ".join((foreign or inside)[:6])
        raise CheckpointError(f"{folder} holds something else ({what}) and is not replaced; give a folder of its own")


def _real(folder: Path) -> Path:
    """The folder itself, behind links, so that it can be renamed."""
    return Path(os.path.realpath(folder))


def _beside(folder: Path, ending: str) -> Path:
    """A hidden sibling that belongs to this folder's name and to no other's."""
    name = folder.name
    if len(name) > _LONGEST:
        name = name[:_LONGEST] + hashlib.sha256(name.encode()).hexdigest()[:16]
    return folder.with_name(f".{name}.graftwork.{ending}")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folders(top: Path) -> None:
    for path in [top, *(p for p in top.rglob("*") if p.is_dir())]:
        _sync(path)


def _sync(folder: Path) -> None:
    """Have a folder's entries on disk; Windows has no such call."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
