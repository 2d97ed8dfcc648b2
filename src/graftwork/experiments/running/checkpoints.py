"""Checkpoints of a unit: which of them are whole, and which one to go on from."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from graftwork.errors import RecipeError
from graftwork.experiments.running.folder import write_json
from graftwork.experiments.running.hashes import hash_file, hash_files
from graftwork.experiments.running.records import read_record

_MARK = "finished"


class Finished(TrainerCallback):
    """Marks a checkpoint when all of it is written: one without the mark, or with other files than it says, is never read."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the mark, the hash of every file, behind the checkpoint that was just written."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if folder.is_dir():
            write_json(folder / _MARK, hash_files(folder))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say where the best checkpoint is now: the state knows it by a path, and the run may have been moved."""
        best = best_of(Path(str(args.output_dir)), state)
        state.best_model_checkpoint = None if best is None else str(best)


def best_of(folder: Path, state: TrainerState) -> Path | None:
    """Where the best checkpoint of a training is among those of a folder."""
    return folder / f"checkpoint-{state.best_global_step}" if state.best_global_step else None


def last_finished(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, as is the best one that it goes back to in the end; what is not is deleted."""
    whole, broken = {}, []
    for path in folder.glob("checkpoint-*") if folder.is_dir() else ():
        step = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if step and _is_whole(path):
            whole[int(step[1])] = path
        else:
            broken += [path.name] if (path / _MARK).exists() else []  # without the mark it was never finished
            shutil.rmtree(path, ignore_errors=True)
    found = None
    while whole and found is None:
        newest = whole.pop(max(whole))
        best = best_of(folder, TrainerState.load_from_json(str(newest / "trainer_state.json")))
        if best in (None, newest, *whole.values()):
            found = newest
        else:
            shutil.rmtree(newest, ignore_errors=True)
    if broken:
        on = "it begins anew" if found is None else f"it goes on from {found.name}"
        warnings.warn(f"{folder}: {', '.join(sorted(broken))} is damaged, and left out; {on}", stacklevel=2)
    return found


def _is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint has every file that its mark names, as it was written."""
    try:
        files = read_record(checkpoint / _MARK, dict[str, str])
        return bool(files) and all(hash_file(checkpoint / name) == files[name] for name in files)
    except (OSError, RecipeError):
        return False
