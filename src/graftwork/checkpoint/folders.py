"""Folders on disk: written under another name and put in place in one step, read whole or not at all.

A folder that is replaced changes places with the new one in one system call, where there is one. Elsewhere it is first renamed
to a fixed name next to it, where `existing` finds it between the two renames. So the old or the new folder is complete whenever a
crash happens. The next save removes what an ended process left.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from graftwork.checkpoint.json_files import MANIFEST
from graftwork.errors import CheckpointError, GraftworkError

TENSORS = {kind: f"{kind}.safetensors" for kind in ("adapter", "fusion", "head", "base")}
_PART = r"(?:graftwork\.json|(?:adapter|fusion|head|base)\.safetensors)"
_OURS = re.compile(rf"{_PART}|(?:adapters|fusions|heads)(?:/\d+(?:/{_PART})?)?")
_LONGEST = 100
_DAY = 86_400.0
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_TRIES = 50
T = TypeVar("T")


def replace_folder(folder: Path, files: Mapping[str, bytes], *, marker: str = MANIFEST) -> Path:
    """Write files (by their path inside) to a folder that does not exist yet, is empty, or was written by `save`.

    Args:
        folder: The folder.
        files: The files.
        marker: The file by which a folder that was written before is known; where it is another than the manifest, such a
            folder holds no other files than these.

    Returns:
        The folder.

    Raises:
        CheckpointError: If something else is there, or it cannot be written, on a full disk for instance; nothing is changed then.
    """
    with replacing(folder, marker) as aside:
        for path, data in files.items():
            _write(aside / path, data)
    return _real(folder)


@contextlib.contextmanager
def replacing(folder: Path, marker: str = MANIFEST, known: Collection[str] = ()) -> Iterator[Path]:
    """Give a path next to a folder to write files into, and put what is there in the folder's place when the block ends.

    Args:
        folder: The folder, and what may be in its place, as for `replace_folder`.
        marker: The file by which a folder that was written before is known, see `replace_folder`.
        known: Files, by their path inside, that such a folder may hold besides those that are written.

    Raises:
        CheckpointError: If something else is there, or it cannot be written; nothing is changed then, nor where the block raises.
    """
    try:
        folder = _real(folder)
        aside, old = _aside(folder), _beside(folder, "old")
        folder.parent.mkdir(parents=True, exist_ok=True)
        _tidy(folder)
        try:
            yield aside
            for inner in [aside, *(path for path in aside.rglob("*") if path.is_dir())]:
                sync(inner)
            if old.exists() and not folder.exists():  # a crash between two renames
                old.rename(folder)
            if folder.exists():
                written = [p.relative_to(aside).as_posix() for p in aside.rglob("*")]
                require_ours(folder, [*known, *written], marker)
                if not _exchange(aside, folder):
                    _rename_twice(aside, folder, old)
            else:
                aside.rename(folder)
            sync(folder.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except (OSError, ValueError) as error:
        if isinstance(error, GraftworkError):
            raise
        raise CheckpointError(f"{str(folder)!r} cannot be written: {error}") from error


def replace_file(path: Path, data: bytes) -> None:
    """Write one file under another name and rename it."""
    path = _real(path)
    aside = _aside(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _tidy(path)
    try:
        _write(aside, data)
        aside.replace(path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def existing(folder: Path) -> Path:
    """Return the folder, or the old one that a crash left while it was being replaced.

    Raises:
        CheckpointError: If there is none.
    """
    try:
        old = _beside(_real(folder), "old")
        for _ in range(_TRIES):
            if folder.is_dir():
                return folder
            if folder.exists() or not old.is_dir():
                what = "is a file" if folder.exists() else "is not there"
                raise CheckpointError(f"{folder} {what}; give the folder that `save` made")
            time.sleep(0.01)  # another process may be between its two renames
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(folder)!r} cannot be the path of a folder: {error}") from error
    warnings.warn(
        f"{folder} was being replaced when the process ended; what it held before is read from {old}", stacklevel=3
    )
    return old


def is_there(folder: Path) -> bool:
    """Whether there is a folder or a file at a path, or the old one that a crash left while it was being replaced."""
    try:
        return folder.exists() or _beside(_real(folder), "old").is_dir()
    except (OSError, ValueError):  # no system has such a path
        return False


def read_whole(folder: Path, read: Callable[[Path], T]) -> T:
    """Return what a function reads of a folder, all of it from one save even if another process saves meanwhile.

    Raises:
        CheckpointError: If it is not there, or damaged.
    """
    for _ in range(_TRIES):
        found = existing(folder)
        before = identity_of(found)
        try:
            return read(found)
        except (CheckpointError, OSError) as error:
            if identity_of(found) == before:
                if isinstance(error, OSError):
                    raise CheckpointError(f"{folder} cannot be read: {error}") from error
                raise
    raise CheckpointError(f"{folder} is replaced all the time while it is read; read it when that has ended")


def is_own_file(path: str) -> bool:
    """Whether a path inside a folder is that of a file, or a folder, which `save` writes."""
    return _OURS.fullmatch(path) is not None


def identity_of(folder: Path) -> tuple[int, int] | None:
    """Return what differs in a folder that replaced another; ``None`` where there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _exchange(one: Path, other: Path) -> bool:
    """Make two folders change places in one step; return ``False`` where the system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return call(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _rename_twice(aside: Path, folder: Path, old: Path) -> None:
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    try:
        aside.rename(folder)
    except BaseException:
        old.rename(folder)
        raise


def require_ours(folder: Path, files: Collection[str], marker: str) -> None:
    """Refuse to replace a folder that holds anything that `save` did not write, or other files than these.

    Raises:
        CheckpointError: If it does.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; give another folder")
    inside = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))
    known = {*files, *(parent.as_posix() for path in files for parent in Path(path).parents)}
    ours = is_own_file if marker == MANIFEST else known.__contains__
    foreign = [path for path in inside if not ours(path)]
    if foreign or (inside and marker not in inside):
        what = ", ".join((foreign or inside)[:6])
        raise CheckpointError(f"{folder} holds something else ({what}) and is not replaced; give a folder of its own")


def _real(folder: Path) -> Path:
    """Return the folder that a link leads to, so that it can be renamed."""
    return Path(os.path.realpath(folder))


def _aside(folder: Path) -> Path:
    """Return a new path next to a folder, with this process in its name."""
    return _beside(folder, f"{_HOST}.{os.getpid()}.{uuid.uuid4().hex}.new")


def _tidy(folder: Path) -> None:
    """Remove what ended processes left of their saves of this folder."""
    start = _beside(folder, "").name
    siblings = os.listdir(folder.parent)  # noqa: PTH208 - thousands may be there, and iterdir makes a path of each
    for path in [folder.with_name(name) for name in siblings if name.startswith(start)]:
        if path.suffix != ".new":
            continue
        host, process = path.name.removeprefix(start).split(".")[:2]
        try:
            over = time.time() - path.stat().st_mtime > _DAY
            if over or (host == _HOST and process.isdecimal() and not runs(int(process))):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue  # another process was faster


def runs(process: int) -> bool:
    """Return whether a process of this machine is there, as far as the system tells."""
    if os.name != "posix":
        return True  # elsewhere the signal 0 ends a process
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _beside(folder: Path, ending: str) -> Path:
    """Return the path of a hidden sibling that belongs to this folder alone."""
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


def sync(path: Path) -> None:
    """Flush a folder's entries, or a file, to the disk; Windows has no such call for what is open to be read."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
