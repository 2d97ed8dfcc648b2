"""Paths that a user has written, and what is there where a file is missing."""

from __future__ import annotations

from pathlib import Path

from graftwork.errors import TaskError


def path_of(given: str | Path, root: str | Path = "") -> Path:
    """A path relative to a root, with ``~`` as a home; a `TaskError` if the system has no such path or denies access."""
    try:
        path = Path(root) / Path(given).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise TaskError(f"the path {str(given)[:80]!r} leads nowhere ({error}); correct it") from error
    return path


def require_file(path: Path) -> None:
    """Refuse a path at which there is no file, naming what its folder has."""
    if not path.is_file():
        raise TaskError(f"{path} is not there; {in_folder(path.parent)}")


def in_folder(folder: Path) -> str:
    """The contents of a folder, for a message about what is missing in it."""
    if not folder.is_dir():
        return f"nor is the folder {folder}"
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"{folder} has {', '.join(names[:20]) or 'nothing'}{more}"
