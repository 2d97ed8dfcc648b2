"""One unit of a run: trained, resumed where it was interrupted, measured, and written down."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from graftwork.api import Adapters, attach
from graftwork.checkpoint.folders import replace_file
from graftwork.errors import TrainingError
from graftwork.tasks import Task
from graftwork.training.arguments import make_trainer
from graftwork.training.base import auto_class, load_base, load_processor
from graftwork.training.budget import StageBudget
from graftwork.training.checkpoints import Finished, last_finished
from graftwork.training.encoding import Encoded
from graftwork.training.folder import read_json
from graftwork.training.measuring import measured
from graftwork.training.plan import Unit
from graftwork.training.recipe import Recipe
from graftwork.training.stages import Stage, adapter_folder, set_up
from graftwork.training.task_trainer import TaskTrainer, run_out, scores_of
from graftwork.training.watching import Told, Watcher

RESULT = "result.json"
_CLOCK = "seconds"
Result = dict[str, Any]


class Workshop:
    """What all units of a run share: recipe, tasks, processor, and where everything lies.

    Args:
        recipe: The recipe.
        root: Its folder, for relative paths.
        run: The run's folder.
        tasks: The recipe's tasks, read.
    """

    def __init__(self, recipe: Recipe, root: Path, run: Path, tasks: Mapping[str, Task]) -> None:
        self.recipe, self.root, self.run, self.tasks = recipe, root, run, tasks
        self.auto = auto_class(recipe.kinds)
        self.processor = load_processor(recipe.base, recipe.kinds, root)
        self._encoded: Encoded | None = None

    def fresh(self) -> Adapters:
        """The base anew, with nothing on it."""
        return attach(load_base(self.recipe.base, self.auto, self.root))

    def encoded(self, task: str) -> Encoded:
        """A task's features; the last task's are kept, since the units of a target follow one another."""
        if self._encoded is None or self._encoded.task.name != task:
            self._encoded = Encoded(self.tasks[task], self.processor, self.recipe.base.max_length)
        return self._encoded

    def set_up(self, unit: Unit, *, trained: bool = True) -> tuple[Adapters, Stage]:
        """A fresh base with what a unit trains on it.

        Args:
            unit: The unit.
            trained: Whether the adapters that it stands over are read from their files; else they are made anew.
        """
        set_seed(unit.seed)
        grafts = self.fresh()

        def add_head(name: str) -> None:
            grafts.add_head(name, self.tasks[unit.task].head())

        def bring(member: Unit, name: str) -> None:
            answers = member.kind == "adapter"  # what stands under a task or beside it has no say
            if trained or member.task in self.recipe.trained:
                grafts.load(adapter_folder(member, self.recipe, self.root, self.run), name, head=answers)
                return
            grafts.add(name, self.recipe.adapter_config(member.kind))
            if answers:
                grafts.add_head(name, self.tasks[member.task].head())

        return grafts, set_up(unit, grafts, self.recipe, add_head, bring)


def run_unit(unit: Unit, shop: Workshop, watcher: Watcher) -> Result:
    """Train a unit, or go on with it, and write its result.

    Raises:
        TrainingError: If the loss is not a number, or the disk is full.
    """
    folder = unit.folder(shop.run)
    grafts, stage = shop.set_up(unit)
    checkpoint = last_finished(folder / "checkpoints")
    watcher.begun(unit, checkpoint is not None)
    clock = Clock(folder / _CLOCK)
    budget = shop.recipe.budget(unit.kind)
    callbacks = [Finished(), clock, Told(watcher, unit)]
    trainer = make_trainer(unit, shop.run, budget, grafts, shop.encoded(unit.task), callbacks)
    try:
        _train(trainer, checkpoint, budget)
        clock.stop()
        result = measured(unit, shop, trainer, grafts, stage)
        result["file_bytes"] = _keep(grafts, stage, folder)
        result["timings"]["train_seconds"] = round(clock.seconds, 1)
        replace_file(folder / RESULT, (json.dumps(result, indent=1) + "\n").encode())
    except OSError as error:
        raise TrainingError(
            f"{unit.id}: {folder} cannot be written ({error.strerror or error}); what was finished is kept: make room, and "
            "start the same command again"
        ) from error
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / _CLOCK).unlink(missing_ok=True)
    watcher.ended(unit, result)
    return result


def read_result(folder: Path) -> Result | None:
    """The result of a unit that is done."""
    path = folder / RESULT
    return read_json(path) if path.is_file() else None


def _train(trainer: TaskTrainer, checkpoint: Path | None, budget: StageBudget) -> None:
    if checkpoint is not None:
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        scores = scores_of(state)
        # interrupted between the last epoch and the result
        if run_out(scores, budget.patience) or len(scores) >= budget.epochs:
            trainer.state = state
            trainer._load_best_model()
            return
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)


def _keep(grafts: Adapters, stage: Stage, folder: Path) -> int:
    """Save what a unit is for; the bytes on disk, for a whole base those that it would have."""
    if stage.saves is None:
        return sum(p.numel() * p.element_size() for p in grafts.model.parameters() if p.requires_grad)
    saved = grafts.save(stage.saves, folder / stage.folder)
    return sum(file.stat().st_size for file in saved.rglob("*") if file.is_file())


class Clock(TrainerCallback):
    """The seconds that a unit was trained, over all its interruptions; those since the last checkpoint are lost with it."""

    def __init__(self, file: Path) -> None:
        self.file, self.began = file, time.perf_counter()
        self.before = float(file.read_text()) if file.is_file() else 0.0
        self.seconds = self.before

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write it down."""
        self.stop()
        replace_file(self.file, str(self.seconds).encode())

    def stop(self) -> None:
        """Take the time."""
        self.seconds = self.before + time.perf_counter() - self.began
