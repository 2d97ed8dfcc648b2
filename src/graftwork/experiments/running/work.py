"""What a unit does: the Trainer that learns, what is measured of it, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from graftwork.api import Adapters
from graftwork.experiments.kinds import UNIT_KINDS, JointKind, Unit
from graftwork.experiments.planning.multi_task_adapters import mixing_of
from graftwork.experiments.running.arguments import checkpoints_of, make_trainer, settle, training_arguments
from graftwork.experiments.running.checkpoints import Finished
from graftwork.experiments.running.listeners import TrainerListener, Watcher
from graftwork.experiments.running.measuring import measured, measured_joint
from graftwork.experiments.running.resume import Clock
from graftwork.experiments.running.run_context import RunContext
from graftwork.training.budget import StageBudget
from graftwork.training.joint_trainer import JointBatches, JointTrainer, TaskRoute
from graftwork.training.recipe_trainer import Patience, RecipeTrainer

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


def single_work(unit: Unit, context: RunContext, watcher: Watcher, clock: Clock) -> Work:
    """What is trained on one task."""
    adapters, stage = context.set_up(unit)
    budget = context.recipe.budget(unit.kind, unit.method)
    callbacks = [Finished(), clock, TrainerListener(watcher, unit)]
    trainer = make_trainer(unit, context.run, budget, adapters, context.encoded(unit.task), callbacks)
    return Work(
        trainer,
        budget,
        lambda: measured(unit, context, trainer, adapters, stage),
        lambda: UNIT_KINDS[unit.kind].keep(unit, adapters, stage, context.folder(unit)),
    )


def joint_work(unit: Unit, context: RunContext, watcher: Watcher, clock: Clock) -> Work:
    """What is trained on all tasks at once."""
    adapters, stage = context.set_up(unit)
    kind = UNIT_KINDS[unit.kind]
    assert isinstance(kind, JointKind)
    trainer, budget = joint_trainer(unit, context, adapters, kind.routes(unit, context))
    for callback in (Finished(), clock, TrainerListener(watcher, unit)):
        trainer.add_callback(callback)
    return Work(
        trainer,
        budget,
        lambda: measured_joint(unit, context, trainer, adapters),
        lambda: kind.keep(unit, adapters, stage, context.folder(unit)),
    )


def joint_trainer(
    unit: Unit, context: RunContext, adapters: Adapters, routes: Mapping[str, TaskRoute]
) -> tuple[JointTrainer, StageBudget]:
    """The Trainer of a unit of all tasks, and its budget."""
    model: Any = adapters.model
    budget, mixing = context.recipe.budget(unit.kind, unit.method), mixing_of(context.recipe, unit.method)
    encoded = {task: context.encoded(task) for task in unit.tasks}
    batches = JointBatches(
        {task: len(one.features(one.task.train, train=True)) for task, one in encoded.items()},
        budget.batch_size,
        mixing=mixing,
        mixed=context.recipe.mixing.batches == "mixed",
        epochs=budget.epochs,
        seed=unit.seed,
    )
    arguments = training_arguments(budget, unit.seed, checkpoints_of(unit, context.run))
    trainer = JointTrainer(model, arguments, encoded, routes, batches, [Patience(budget.patience)])
    settle(trainer, budget, len(batches), context.run / "tensorboard" / unit.id)
    return trainer, budget
