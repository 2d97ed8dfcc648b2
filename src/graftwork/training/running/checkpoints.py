"""Checkpoints of a unit: which of them were finished, and which one to go on from."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from graftwork.checkpoint.folders import replace_file

_MARK = "finished"
_STATE = "trainer_state.json"


class Finished(TrainerCallback):
    """Marks a checkpoint when all of it is written: one without the mark is never read."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the mark behind the checkpoint that was just written."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if folder.is_dir():
            replace_file(folder / _MARK, b"")


def last_finished(folder: Path) -> Path | None:
    """The newest checkpoint that was finished; what was not is deleted.

    Paths in its state are made those of this folder, which may have been moved.
    """
    found = {}
    for path in folder.glob("checkpoint-*") if folder.is_dir() else ():
        step = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if step and (path / _MARK).is_file():
            found[int(step[1])] = path
        else:
            shutil.rmtree(path, ignore_errors=True)
    while found:
        newest = found.pop(max(found))
        best = _settle(newest)
        if best is None or best in found.values() or best == newest:
            return newest
        shutil.rmtree(newest, ignore_errors=True)  # its best one is gone: a crash between two deletions
    return None


def _settle(checkpoint: Path) -> Path | None:
    """Write where the best checkpoint is now into a checkpoint's state, and say it."""
    path = checkpoint / _STATE
    state = json.loads(path.read_text(encoding="utf-8"))
    best = state.get("best_model_checkpoint")
    if best is None:
        return None
    here = checkpoint.parent / Path(best).name
    if str(here) != best:
        state["best_model_checkpoint"] = str(here)
        replace_file(path, json.dumps(state, indent=2, sort_keys=True).encode() + b"\n")
    return here
