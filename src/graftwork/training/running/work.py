"""What a unit does: the Trainer that learns, what is measured of it, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from graftwork.api import Adapters
from graftwork.training.planning.budget import StageBudget
from graftwork.training.planning.plan import Unit
from graftwork.training.planning.serving import mixing_of
from graftwork.training.running.checkpoints import Finished
from graftwork.training.running.going import Clock
from graftwork.training.running.joint import keep_joint, measured_joint, set_up_joint
from graftwork.training.running.kept import size_of, trained_bytes
from graftwork.training.running.measuring import measured
from graftwork.training.running.stages import Stage
from graftwork.training.running.watching import Told, Watcher
from graftwork.training.running.workshop import Workshop
from graftwork.training.trainers.arguments import checkpoints_of, make_trainer, settle, training_arguments
from graftwork.training.trainers.joint_trainer import JointBatches, JointTrainer, Way
from graftwork.training.trainers.recipe_trainer import Patience, RecipeTrainer

Measured = tuple[dict[str, Any], dict[str, list[Any]]]


class Work(NamedTuple):
    """A unit that is ready to be trained.

    Attributes:
        trainer: What trains it.
        budget: Its budget.
        measured: Gives what ``result.json`` says, and the predictions by task, when it is trained.
        keep: Saves what the unit is for; gives the bytes.
    """

    trainer: RecipeTrainer
    budget: StageBudget
    measured: Callable[[], Measured]
    keep: Callable[[], int]


def single_work(unit: Unit, shop: Workshop, watcher: Watcher, clock: Clock) -> Work:
    """What is trained on one task."""
    grafts, stage = shop.set_up(unit)
    budget = shop.recipe.budget(unit.kind, unit.method)
    callbacks = [Finished(), clock, Told(watcher, unit)]
    trainer = make_trainer(unit, shop.run, budget, grafts, shop.encoded(unit.task), callbacks)
    return Work(
        trainer,
        budget,
        lambda: measured(unit, shop, trainer, grafts, stage),
        lambda: keep_stage(grafts, stage, unit.folder(shop.run)),
    )


def joint_work(unit: Unit, shop: Workshop, watcher: Watcher, clock: Clock) -> Work:
    """What is trained on all tasks at once."""
    grafts, ways = set_up_joint(unit, shop)
    trainer, budget = joint_trainer(unit, shop, grafts, ways)
    for callback in (Finished(), clock, Told(watcher, unit)):
        trainer.add_callback(callback)
    return Work(
        trainer,
        budget,
        lambda: measured_joint(unit, shop, trainer, grafts),
        lambda: keep_joint(unit, grafts, shop.run),
    )


def joint_trainer(
    unit: Unit, shop: Workshop, grafts: Adapters, ways: Mapping[str, Way]
) -> tuple[JointTrainer, StageBudget]:
    """The Trainer of a unit of all tasks, and its budget."""
    model: Any = grafts.model
    budget, mixing = shop.recipe.budget(unit.kind, unit.method), mixing_of(shop.recipe, unit.method)
    encoded = {task: shop.encoded(task) for task in unit.tasks}
    batches = JointBatches(
        {task: len(one.features(one.task.train, train=True)) for task, one in encoded.items()},
        budget.batch_size,
        mixing=mixing,
        mixed=shop.recipe.mixing.batches == "mixed",
        epochs=budget.epochs,
        seed=unit.seed,
    )
    arguments = training_arguments(budget, unit.seed, checkpoints_of(unit, shop.run))
    trainer = JointTrainer(model, arguments, encoded, ways, batches, [Patience(budget.patience)])
    settle(trainer, budget, len(batches), shop.run / "tensorboard" / unit.id)
    return trainer, budget


def keep_stage(grafts: Adapters, stage: Stage, folder: Path) -> int:
    """Save what a unit is for; the bytes on disk, for a whole base those that it would have."""
    if stage.folder == "base":
        return size_of(grafts.save_base(folder / stage.folder))
    if stage.saves is None:
        return trained_bytes(grafts)
    size = size_of(grafts.save(stage.saves, folder / stage.folder))
    size += sum(size_of(grafts.save(name, folder / "adapters" / name)) for name in stage.retrained)
    return size + (size_of(grafts.save_base(folder / "base")) if stage.base else 0)
