"""The folder of adapters that are added while the server runs, and the file that says which are served: it outlives a crash."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import ConfigDict

from graftwork.checkpoint.folders import replace_file
from graftwork.experiments.running.records import Shape, read_record
from graftwork.serving.refusals import RefusedError

FILE = "served.json"


class Kept(Shape):
    """A task that was added.

    Attributes:
        folder: The adapter's folder, relative to the store.
        base: The name of its base.
        task: What was said of the task.
    """

    model_config = ConfigDict(extra="forbid")

    folder: str
    base: str | None = None
    task: dict[str, Any] | None = None


class _File(Shape):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1]
    tasks: dict[str, Kept | None]


class Store:
    """A folder of saved adapters from which tasks are added.

    What was added, replaced or removed is in ``served.json`` before the request is answered; a server that starts again reads it.

    Args:
        folder: The folder; it is made where it is not there.

    Raises:
        RecipeError: If its file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.tasks: dict[str, Kept | None] = {}  # None for a task that was removed though a run has it
        if (self.folder / FILE).is_file():
            way_out = "mend it, or delete it and add the tasks again"
            record = read_record(self.folder / FILE, _File, way_out)
            self.tasks = _File.model_validate(record).tasks

    def path(self, folder: str) -> Path:
        """Return the path of a folder in the store.

        Raises:
            RefusedError: If it is elsewhere, or not there.
        """
        try:
            inside = PurePosixPath(folder)
            found = (self.folder / inside).resolve()
            there = (
                not inside.is_absolute()
                and found != self.folder
                and found.is_relative_to(self.folder)
                and found.is_dir()
            )
        except (OSError, ValueError):
            there = False
        if not there:
            raise RefusedError(
                f"folder is {folder!r:.200}, and there is no such folder in the store; put the folder that `save` wrote there, and "
                "give its path relative to the store"
            )
        return found

    def keep(self, name: str, kept: Kept | None) -> None:
        """Write down that a task is served, or with ``None`` that one which a run or a folder has is not."""
        self._write({**self.tasks, name: kept})

    def forget(self, name: str) -> None:
        """Write down that a task which was added is no longer served."""
        self._write({other: kept for other, kept in self.tasks.items() if other != name})

    def _write(self, tasks: dict[str, Kept | None]) -> None:
        values = {one: None if held is None else held.model_dump(exclude_none=True) for one, held in tasks.items()}
        text = json.dumps({"version": 1, "tasks": values}, indent=1, ensure_ascii=False)
        replace_file(self.folder / FILE, f"{text}\n".encode())
        self.tasks = tasks
