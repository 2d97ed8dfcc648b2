"""Adapters of several tasks trained in one pass: what a recipe's ``together`` asks for.

The pass has a folder of its own in the run's, with the units in it and one checkpoint of them all; it is removed when the
last of them is written.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from transformers import TrainerState, set_seed

from graftwork.api import Adapters
from graftwork.errors import RecipeError
from graftwork.training.planning.plan import Unit
from graftwork.training.running.folder import CLOCK, write_json
from graftwork.training.running.going import Clock
from graftwork.training.running.made_with import note_begun
from graftwork.training.running.measuring import measured
from graftwork.training.running.records import read_record
from graftwork.training.running.stages import Stage
from graftwork.training.running.unit import Result, write_down
from graftwork.training.running.watching import Watcher
from graftwork.training.running.work import Measured, keep_stage
from graftwork.training.running.workshop import Workshop
from graftwork.training.trainers.arguments import make_trainer
from graftwork.training.trainers.learner import Learner
from graftwork.training.trainers.together import CHECKPOINT, learn_together

_FOLDER, _UNITS = "together", "units.json"


def company_of(unit: Unit, units: Sequence[Unit], done: Collection[str], shop: Workshop) -> tuple[Unit, ...]:
    """The units that learn in one pass with a unit that is not done, itself among them.

    Args:
        unit: The unit.
        units: All of the run, in their order.
        done: The ids of those that are done.
        shop: Where they are trained.
    """
    if shop.recipe.together < 2 or not _can_join(unit):
        return (unit,)
    for _, named in companies(shop.run):
        if unit.id in named:  # interrupted: it goes on in the company that it was begun in
            return tuple(one for one in units if one.id in named)
    alike = [one for one in units if _can_join(one) and one.seed == unit.seed and one.id not in done]
    return tuple(alike[: shop.recipe.together])


def companies(run: Path) -> list[tuple[Path, list[str]]]:
    """The folders of the passes that a run has begun, and the ids of their units; one that cannot be read is removed."""
    found = []
    for folder in sorted((run / _FOLDER).glob("*")):
        try:
            found.append((folder, read_record(folder / _UNITS, list[str])))
        except RecipeError as error:
            warnings.warn(f"{error}: the pass begins anew", stacklevel=2)
            shutil.rmtree(folder, ignore_errors=True)
    return found


def forget_companies(run: Path, units: Collection[str] | None = None) -> None:
    """Remove what is left of passes: of those with some units, by default of all, as a run does that is done."""
    if units is None:
        shutil.rmtree(run / _FOLDER, ignore_errors=True)
    for folder, named in companies(run):
        if units is not None and not {*units}.isdisjoint(named):
            shutil.rmtree(folder, ignore_errors=True)


def _can_join(unit: Unit) -> bool:
    """Whether it is the adapter of a task and stands over no other, which would be another one for every row."""
    return unit.kind == "adapter" and not unit.under


def train_company(
    units: Sequence[Unit], done: Collection[str], shop: Workshop, watcher: Watcher
) -> Iterator[tuple[Unit, Result]]:
    """Train units in one pass, or go on with it, and write their results one by one.

    Args:
        units: Adapters of different tasks, of one seed.
        done: The ids of units whose results are written already: an interrupted pass may have come so far.
        shop: Where they are trained.
        watcher: Is told.

    Yields:
        Each unit that was not done, with its result.

    Raises:
        TrainingError: If a loss is not a number.
    """
    first = units[0]
    folder = shop.run / _FOLDER / f"{first.task}-{first.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _UNITS, [unit.id for unit in units])
    grafts, stages, learners = _set_up(units, shop)
    resumed = (folder / CHECKPOINT).is_file()
    for unit in units:
        if unit.id not in done:
            note_begun(unit, shop)
            watcher.begun(unit, resumed)
    clock = Clock(folder / CLOCK)
    _train(units, grafts, learners, folder, clock, watcher)
    steps = sum(learner.steps for learner in learners)
    for unit, stage, learner in zip(units, stages, learners, strict=True):
        if unit.id in done:
            continue
        result, predictions = _measured(unit, stage, learner, grafts, shop)
        result["together"] = [other.id for other in units]
        # of the pass's time its share of the steps
        result["timings"]["train_seconds"] = round(clock.seconds * learner.steps / steps, 1)
        write_down(unit, shop, result, predictions)
        watcher.ended(unit, result)
        yield unit, result
    shutil.rmtree(folder, ignore_errors=True)


def _set_up(units: Sequence[Unit], shop: Workshop) -> tuple[Adapters, list[Stage], list[Learner]]:
    """A fresh base with all adapters and heads on it, each as it would begin alone."""
    set_seed(units[0].seed)
    grafts, stages, learners = shop.fresh(), [], []
    for unit in units:
        set_seed(unit.seed)
        stages.append(shop.put(unit, grafts))
        learners.append(Learner(unit.task, shop.encoded(unit.task), shop.recipe.budget(unit.kind), unit.seed))
    return grafts, stages, learners


def _train(
    units: Sequence[Unit], grafts: Adapters, learners: list[Learner], folder: Path, clock: Clock, watcher: Watcher
) -> None:
    named = {unit.task: unit for unit in units}

    def stepped(learner: Learner) -> None:
        watcher.stepped(named[learner.name], learner.steps, learner.steps_an_epoch * learner.budget.epochs)

    def told(learner: Learner, epoch: int, score: float) -> None:
        clock.keep()
        metric = learner.encoded.task.metric
        values = {"loss": learner.losses[-1][1], f"eval_{metric}": score, "eval_score": score}
        watcher.logged(named[learner.name], epoch, values)

    learn_together(grafts, learners, seed=units[0].seed, folder=folder, told=told, stepped=stepped)
    clock.stop()


def _measured(unit: Unit, stage: Stage, learner: Learner, grafts: Adapters, shop: Workshop) -> Measured:
    """Measure and save a unit as if it had been trained alone."""
    grafts.train_only(unit.task)
    trainer = make_trainer(unit, shop.run, learner.budget, grafts, learner.encoded, [])
    losses = [{"step": step, "loss": loss} for step, loss in learner.losses]
    scores = [{"eval_score": score} for score in learner.scores]
    trainer.state = TrainerState(global_step=learner.steps, log_history=[*losses, *scores])
    result, predictions = measured(unit, shop, trainer, grafts, stage)
    result["file_bytes"] = keep_stage(grafts, stage, unit.folder(shop.run))
    return result, predictions
