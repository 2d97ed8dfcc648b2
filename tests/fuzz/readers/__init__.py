"""Every reader of files from elsewhere, each with a good file to begin with, in groups that are tested by themselves."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.readers import checkpoints, other_libraries, runs, tasks
from tests.fuzz.readers.reader import Reader

GROUPS: dict[str, Callable[[], list[Reader]]] = {
    "checkpoints": checkpoints.readers,
    "other libraries": other_libraries.readers,
    "runs": runs.readers,
    "tasks": tasks.readers,
}
