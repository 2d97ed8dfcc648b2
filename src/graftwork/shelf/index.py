"""What is known of folders, kept in a file of SQLite: only so that the next look is fast, and made anew where it is lost.

Every process writes in one immediate transaction and waits for the others. A killed one leaves a journal, which the next one
rolls back. No error of this file reaches a caller: without it, folders are read again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

SCHEMA = 1
_WAIT = 30.0  # seconds for another process
_BUSY = ("locked", "busy")
_SELECT = "SELECT path, stamp, record FROM folders WHERE path = ? OR (path >= ? AND path < ?)"
T = TypeVar("T")
logger = logging.getLogger(__name__)


def default_index() -> Path:
    """The index in the user's folder for caches."""
    given = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(given) if given else Path.home() / ".cache") / "graftwork" / "shelf.sqlite"


class Index:
    """Stamps and records of folders in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, roots: Iterable[str]) -> dict[str, tuple[str, str]]:
        """The stamp and the record of each folder that is known below some others; none where the file cannot be used."""

        def select(database: sqlite3.Connection) -> dict[str, tuple[str, str]]:
            found: dict[str, tuple[str, str]] = {}
            for root in roots:
                start = root.rstrip(os.sep) + os.sep
                for path, stamp, record in database.execute(_SELECT, (root, start, start[:-1] + chr(ord(os.sep) + 1))):
                    found[path] = (stamp, record)
            return found

        return self._try(select) or {}

    def write(self, changed: Mapping[str, tuple[str, str]], removed: Iterable[str]) -> None:
        """Keep the stamp and record of some folders, and forget others."""

        def put(database: sqlite3.Connection) -> None:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("DELETE FROM folders WHERE path = ?", [(path,) for path in removed])
            rows = [(path, *values) for path, values in changed.items()]
            database.executemany("INSERT OR REPLACE INTO folders VALUES (?, ?, ?)", rows)
            database.execute("COMMIT")

        self._try(put)

    def _try(self, use: Callable[[sqlite3.Connection], T]) -> T | None:
        """Use the file; where it is damaged, make it anew and try once more."""
        for again in (False, True):
            try:
                with contextlib.closing(self._open()) as database:
                    return use(database)
            except (sqlite3.Error, OSError, ValueError, UnicodeError) as error:
                busy = isinstance(error, sqlite3.OperationalError) and any(word in str(error) for word in _BUSY)
                if again or busy or not isinstance(error, sqlite3.Error) or not self._discard():
                    logger.warning("%s is not used (%s); folders are read anew", self.path, error)
                    return None
        return None

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None)
        try:
            if database.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                database.execute("BEGIN IMMEDIATE")
                # another process may have made it meanwhile
                if database.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                    database.execute("DROP TABLE IF EXISTS folders")
                    database.execute("CREATE TABLE folders (path TEXT PRIMARY KEY, stamp TEXT, record TEXT)")
                    database.execute(f"PRAGMA user_version = {SCHEMA}")
                database.execute("COMMIT")
        except BaseException:
            database.close()
            raise
        return database

    def _discard(self) -> bool:
        """Remove a file that is damaged, unless another process has made it anew by now; return whether it can be tried again."""
        try:
            with FileLock(f"{self.path}.lock", timeout=_WAIT):
                try:
                    with contextlib.closing(self._open()) as database:
                        if database.execute("PRAGMA quick_check").fetchone()[0] == "ok":
                            database.execute(_SELECT, ("", "", ""))
                            return True
                except sqlite3.Error:
                    pass
                for ending in ("", "-journal", "-wal", "-shm"):
                    Path(f"{self.path}{ending}").unlink(missing_ok=True)
                return True
        except (OSError, Timeout):
            return False
