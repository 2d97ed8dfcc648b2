"""The Trainer of a unit, as its budget says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from graftwork.api import Adapters
from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.checks import require_tensorboard
from graftwork.training.budget import StageBudget
from graftwork.training.encoding import Encoded
from graftwork.training.recipe_trainer import Patience, RecipeTrainer
from graftwork.training.task_trainer import TaskTrainer


def make_trainer(
    unit: Unit,
    run: Path,
    budget: StageBudget,
    adapters: Adapters,
    encoded: Encoded,
    callbacks: list[TrainerCallback],
    folder: Path | None = None,
) -> TaskTrainer:
    """The Trainer of a unit.

    Args:
        unit: The unit.
        run: The folder of its run.
        budget: Its budget.
        adapters: The handle of the model that it trains.
        encoded: Its task.
        callbacks: More of them.
        folder: For its checkpoints; by default the unit's own.
    """
    model: Any = adapters.model
    arguments = training_arguments(budget, unit.seed, folder or checkpoints_of(unit, run))
    trainer = TaskTrainer(model, arguments, encoded, [Patience(budget.patience), *callbacks])
    batches = math.ceil(len(encoded.features(encoded.task.train, train=True)) / budget.batch_size)
    settle(trainer, budget, batches, run / "tensorboard" / unit.id)
    return trainer


def checkpoints_of(unit: Unit, run: Path) -> Path:
    """Where the checkpoints of a unit are while it is trained."""
    return unit.folder(run) / "checkpoints"


def settle(trainer: RecipeTrainer, budget: StageBudget, batches: int, logs: Path) -> None:
    """What depends on the number of steps, and the listeners.

    Args:
        trainer: The Trainer.
        budget: Its budget.
        batches: Of an epoch.
        logs: Where logs for TensorBoard go, if there are to be any.
    """
    steps = math.ceil(batches / budget.accumulation)
    trainer.args.warmup_steps = round(steps * budget.epochs * budget.warmup)
    trainer.args.logging_steps = max(1, min(50, steps // 10))
    if budget.tensorboard:
        trainer.add_callback(_tensorboard(logs))
    for callback in list(trainer.callback_handler.callbacks):  # they print every measurement; the watcher shows them
        if type(callback).__name__ in ("PrinterCallback", "ProgressCallback"):
            trainer.remove_callback(callback)


def training_arguments(budget: StageBudget, seed: int, folder: Path) -> TrainingArguments:
    """The arguments of a unit's Trainer, but for what `settle` knows."""
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
        bf16=budget.bf16,
        **_checkpointing(budget),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=True,
        logging_steps=10,
        logging_nan_inf_filter=False,
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
    )


def _tensorboard(folder: Path) -> TrainerCallback:
    """Trainer's own callback, with a folder that outlives the unit's checkpoints.

    Raises:
        RecipeError: If TensorBoard is not installed.
    """
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations.integration_utils import TensorBoardCallback

    return TensorBoardCallback(SummaryWriter(log_dir=str(folder)))


def _checkpointing(budget: StageBudget) -> dict[str, Any]:
    """Only where it is asked for: the newest transformers warns of the name, the oldest knows no other."""
    if not budget.gradient_checkpointing:
        return {}
    return {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
