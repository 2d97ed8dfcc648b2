"""Paths that a user has written: where they lead, and what there is where they do not."""

from __future__ import annotations

from pathlib import Path

from graftwork.errors import TaskError


def path_of(said: str | Path, root: str | Path = "") -> Path:
    """Where a path leads, ``~`` a home.

    Args:
        said: The path.
        root: What it is relative to.

    Raises:
        TaskError: If the system can have no such path, or does not let it be looked at.
    """
    try:
        path = Path(root) / Path(said).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise TaskError(f"the path {str(said)[:80]!r} leads nowhere ({error}); correct it") from error
    return path


def require_file(path: Path) -> None:
    """Refuse a path at which there is no file.

    Raises:
        TaskError: Saying what there is.
    """
    if not path.is_file():
        raise TaskError(f"{path} is not there; {in_folder(path.parent)}")


def in_folder(folder: Path) -> str:
    """What there is in a folder, for a message about what is not."""
    if not folder.is_dir():
        return f"nor is the folder {folder}"
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"{folder} has {', '.join(names[:20]) or 'nothing'}{more}"
