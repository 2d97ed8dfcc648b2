"""The Trainer of a unit, as its budget says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainingArguments

from graftwork.api import Adapters
from graftwork.errors import TrainingError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.running.folder import CHECKPOINTS
from graftwork.experiments.running.run_context import RunContext
from graftwork.experiments.running.run_files import RunFiles
from graftwork.training.budget import StageBudget
from graftwork.training.encoding import Encoded
from graftwork.training.joint_trainer import JointBatches, JointTrainer, TaskRoute
from graftwork.training.recipe_trainer import Patience, RecipeTrainer
from graftwork.training.task_trainer import TaskTrainer


def make_trainer(
    unit: Unit,
    files: RunFiles,
    budget: StageBudget,
    adapters: Adapters,
    encoded: Encoded,
    callbacks: Sequence[TrainerCallback],
    folder: Path | None = None,
) -> TaskTrainer:
    """The Trainer of a unit of one task.

    Args:
        unit: The unit.
        files: The files of its run.
        budget: Its budget.
        adapters: The handle of the model that it trains.
        encoded: Its task.
        callbacks: More callbacks.
        folder: The folder of its checkpoints; by default one in the unit's folder.
    """
    model: Any = adapters.model
    arguments = plain_arguments(budget, unit.seed, folder or files.folder(unit) / CHECKPOINTS, model.device)
    trainer = TaskTrainer(model, arguments, encoded, [Patience(budget.stops_after), *callbacks], budget.stops_by)
    batches = math.ceil(len(encoded.features(encoded.task.train, train=True)) / budget.batch_size)
    _settle(trainer, budget, batches)
    return trainer


def make_joint_trainer(
    unit: Unit,
    context: RunContext,
    adapters: Adapters,
    routes: Mapping[str, TaskRoute],
    callbacks: Sequence[TrainerCallback] = (),
) -> JointTrainer:
    """The Trainer of a unit of all tasks; ``routes`` gives the adapter and the head of each."""
    model: Any = adapters.model
    recipe, budget = context.recipe, context.recipe.budget(unit.kind, unit.method)
    encoded = {task: context.encoded(task, unit.seed) for task in unit.tasks}
    batches = JointBatches(
        {task: len(one.features(one.task.train, train=True)) for task, one in encoded.items()},
        budget.batch_size,
        mixing=recipe.mixing_of(unit.method),
        mixed=recipe.mixing.batches == "mixed",
        epochs=budget.epochs,
        seed=unit.seed,
    )
    arguments = plain_arguments(budget, unit.seed, context.folder(unit) / CHECKPOINTS, model.device)
    trainer = JointTrainer(
        model, arguments, encoded, routes, batches, [Patience(budget.stops_after), *callbacks], budget.stops_by
    )
    _settle(trainer, budget, len(batches))
    return trainer


def _settle(trainer: RecipeTrainer, budget: StageBudget, batches: int) -> None:
    """Set what depends on the number of batches of an epoch, and remove the callbacks that print."""
    steps = math.ceil(batches / budget.accumulation)
    trainer.args.warmup_steps = round(steps * budget.epochs * budget.warmup)
    trainer.args.logging_steps = max(1, min(50, steps // 10))
    for printing in (PrinterCallback, ProgressCallback):  # the watcher shows what they would print
        trainer.remove_callback(printing)


def plain_arguments(budget: StageBudget, seed: int, folder: Path, device: torch.device) -> TrainingArguments:
    """The arguments of a Trainer, except for those that `_settle` sets."""
    precision = budget.precision_on(device)
    if precision == "float16" and device.type == "cpu":
        raise TrainingError('precision is "float16", which is trained in on a GPU alone; say "auto", or "float32"')
    checkpointing: dict[str, Any] = {}
    if (
        budget.gradient_checkpointing
    ):  # else left out: the newest transformers warns of the name, the oldest knows no other
        checkpointing = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=budget.epochs,
        learning_rate=budget.learning_rate,
        weight_decay=budget.weight_decay,
        lr_scheduler_type=budget.schedule,
        per_device_train_batch_size=budget.batch_size,
        per_device_eval_batch_size=budget.eval_batch_size,
        gradient_accumulation_steps=budget.accumulation,
        max_grad_norm=budget.max_grad_norm,
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        **checkpointing,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="score" if budget.stops_by is None else "choice",
        greater_is_better=True,
        logging_steps=10,
        logging_nan_inf_filter=False,
        report_to=[],  # `graftwork.experiments.running.tracking` gives the callbacks: nothing is on by being installed
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
    )
