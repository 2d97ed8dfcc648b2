"""Checkpoints of a unit: which of them are whole, training that goes on from one, and the seconds that it took."""

from __future__ import annotations

import re
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from graftwork.checkpoint.folders import replace_file
from graftwork.errors import RecipeError
from graftwork.experiments.running.folder import write_json
from graftwork.experiments.running.hashes import hash_file, hash_files
from graftwork.experiments.running.records import read_record
from graftwork.training.budget import StageBudget
from graftwork.training.recipe_trainer import RecipeTrainer, choices_of, run_out

_MARK = "finished"


class Finished(TrainerCallback):
    """Marks a checkpoint when all of it is written: one without the mark, or with other files than it names, is never read."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the mark, the hash of every file, into the checkpoint that was just written."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if folder.is_dir():
            write_json(folder / _MARK, hash_files(folder))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set where the best checkpoint is now: the state has its path, and the run may have been moved."""
        best = _best_of(Path(str(args.output_dir)), state)
        state.best_model_checkpoint = None if best is None else str(best)


class Clock(TrainerCallback):
    """The seconds that a unit was trained, over all interruptions; those since the last checkpoint are lost with it."""

    def __init__(self, file: Path) -> None:
        self.file, self.began = file, time.perf_counter()
        try:
            self.before = max(0.0, min(float(file.read_text()), 1e9))
        except (OSError, ValueError):  # there is none, or it is damaged
            self.before = 0.0
        self.seconds = self.before

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write down the seconds so far."""
        self.keep()

    def keep(self) -> None:
        """Write down the seconds so far."""
        self.stop()
        replace_file(self.file, str(self.seconds).encode())

    def stop(self) -> None:
        """Take the time."""
        self.seconds = self.before + time.perf_counter() - self.began


def go_on(trainer: RecipeTrainer, checkpoint: Path | None, budget: StageBudget) -> None:
    """Train from a checkpoint, or from the start, and load the weights of the best epoch."""
    if checkpoint is not None:
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        choices = choices_of(state)
        # interrupted between the last epoch and the result
        if run_out(choices, budget.stops_after) or len(choices) >= budget.epochs:
            state.best_model_checkpoint = str(_best_of(checkpoint.parent, state))
            trainer.state = state
            trainer._load_best_model()
            return
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


def last_finished(folder: Path) -> Path | None:
    """The newest checkpoint in a folder that is whole, and whose best one is whole too; those that are not are deleted."""
    whole, broken = {}, []
    for path in folder.glob("checkpoint-*"):
        step = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if step and _is_whole(path):
            whole[int(step[1])] = path
        else:
            broken += [path.name] if (path / _MARK).exists() else []  # without the mark it was never finished
            shutil.rmtree(path, ignore_errors=True)
    found = None
    while whole and found is None:
        newest = whole.pop(max(whole))
        best = _best_of(folder, TrainerState.load_from_json(str(newest / "trainer_state.json")))
        if best in (None, newest, *whole.values()):
            found = newest
        else:
            shutil.rmtree(newest, ignore_errors=True)
    if broken:
        on = "it begins anew" if found is None else f"it goes on from {found.name}"
        warnings.warn(f"{folder}: {', '.join(sorted(broken))} is damaged, and left out; {on}", stacklevel=2)
    return found


def _best_of(folder: Path, state: TrainerState) -> Path | None:
    """The best checkpoint of a training among those of a folder."""
    return folder / f"checkpoint-{state.best_global_step}" if state.best_global_step else None


def _is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint has every file that its mark names, as it was written."""
    try:
        files = read_record(checkpoint / _MARK, dict[str, str])
        return bool(files) and all(hash_file(checkpoint / name) == files[name] for name in files)
    except (OSError, RecipeError):
        return False
