"""The budget of one training: epochs, learning rate, batches, precision."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from graftwork.training.precision import Precision, best_precision

Rate = Annotated[float, Field(gt=0, lt=10)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class EarlyStopping(BaseModel):
    """By what the best epoch is chosen, and when a training ends.

    Attributes:
        metric: A metric of the task's kind, or ``"loss"``, the loss on the dev rows; by default the task's main metric.
        patience: Epochs without a better value before it stops; by default ``patience`` of the budget.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str | None = None
    patience: Count | None = None


class StageBudget(BaseModel):
    """The budget of one training.

    Attributes:
        epochs: The most epochs.
        patience: Epochs without a better score before it stops; ``None``: never.
        early_stopping: By which metric it stops, and the best epoch is chosen, in place of the task's main metric.
        learning_rate: The highest learning rate.
        weight_decay: Weight decay of the optimiser.
        warmup: Share of all steps in which the learning rate rises.
        schedule: How the learning rate falls.
        batch_size: Rows a batch (questions, for multiple choice), before accumulation.
        accumulation: Batches a step of the optimiser.
        max_grad_norm: The norm that gradients are clipped to.
        bf16: Compute in bfloat16 (autocast); the same as ``precision = "bfloat16"``.
        precision: What is computed in (autocast): ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"``, the fastest that
            the machine computes well: bfloat16 or else float16 on a GPU, bfloat16 on a CPU with instructions for it.
        gradient_checkpointing: Less memory, more time.
        eval_batch_size: Rows a batch in evaluation.
        tensorboard: Write logs for TensorBoard into the run's folder ``tensorboard``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: Count = 10
    patience: Count | None = 3
    early_stopping: EarlyStopping | None = None
    learning_rate: Rate = 1e-4
    weight_decay: Decay = 0.01
    warmup: Share = 0.06
    schedule: Literal["linear", "cosine", "constant_with_warmup", "constant"] = "linear"
    batch_size: Count = 32
    accumulation: Count = 1
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    bf16: bool = False
    precision: Precision | Literal["auto"] | None = None
    gradient_checkpointing: bool = False
    eval_batch_size: Count = 64
    tensorboard: bool = False

    @property
    def stops_after(self) -> int | None:
        """Epochs without a better value before it stops; ``None``: never."""
        given = self.early_stopping
        return self.patience if given is None or given.patience is None else given.patience

    @property
    def stops_by(self) -> str | None:
        """The metric by which the best epoch is chosen; ``None`` for the task's main metric."""
        return None if self.early_stopping is None else self.early_stopping.metric

    def precision_on(self, device: torch.device, *, scales: bool = True) -> Precision:
        """What is computed in on a device.

        Args:
            device: The device.
            scales: Whether the training scales its loss, without which float16 loses small gradients.
        """
        if self.precision == "auto":
            found = best_precision(device)
            return found if scales or found != "float16" else "float32"
        return self.precision or ("bfloat16" if self.bf16 else "float32")
