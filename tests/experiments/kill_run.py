"""Runs a recipe in a process that kills itself at a chosen moment: `python kill_run.py RECIPE OUT step|write COUNT [redo]`.

`step`: after so many steps of the optimiser; `write`: when half of the so-manyth file of checkpoints is written. `redo`: what
no longer fits is made anew.
"""

import json
import os
import signal
import sys
from pathlib import Path

import graftwork.checkpoint.folders as folders
from graftwork.experiments import Recipe, Unit, Watcher, run


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Fuse(Watcher):
    """Counts steps down."""

    def __init__(self, left: int) -> None:
        self.left = left

    def stepped(self, unit: Unit, step: int, steps: int) -> None:
        self.left -= 1
        if self.left == 0:
            die()


def _read(path: Path) -> Recipe:
    """A recipe as TOML, or as JSON."""
    return Recipe.make(json.loads(path.read_text())) if path.suffix == ".json" else Recipe.read(path)


def main() -> None:
    recipe, out, moment, count, *redo = sys.argv[1:]
    left = int(count)
    if moment == "write":
        write = folders._write

        def half(path: Path, data: bytes) -> None:
            nonlocal left
            left -= "checkpoint-" in str(path)
            if left == 0 and "checkpoint-" in str(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data[: len(data) // 2])
                die()
            write(path, data)

        folders._write = half
    watcher = Fuse(left) if moment == "step" else Watcher()
    run(_read(Path(recipe)), out, root=Path(recipe).parent, watcher=watcher, redo=bool(redo))


if __name__ == "__main__":
    main()
