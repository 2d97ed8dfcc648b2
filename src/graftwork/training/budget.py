"""The budget of one training: epochs, learning rate, batches, precision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(gt=0, lt=10)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class StageBudget(BaseModel):
    """The budget of one training.

    Attributes:
        epochs: The most epochs.
        patience: Epochs without a better score before it stops; ``None``: never.
        learning_rate: The highest learning rate.
        weight_decay: Weight decay of the optimiser.
        warmup: Share of all steps in which the learning rate rises.
        schedule: How the learning rate falls.
        batch_size: Rows a batch (questions, for multiple choice), before accumulation.
        accumulation: Batches a step of the optimiser.
        max_grad_norm: The norm that gradients are clipped to.
        bf16: Compute in bfloat16 (autocast).
        gradient_checkpointing: Less memory, more time.
        eval_batch_size: Rows a batch in evaluation.
        tensorboard: Write logs for TensorBoard into the run's folder ``tensorboard``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: Count = 10
    patience: Count | None = 3
    learning_rate: Rate = 1e-4
    weight_decay: Decay = 0.01
    warmup: Share = 0.06
    schedule: Literal["linear", "cosine", "constant_with_warmup", "constant"] = "linear"
    batch_size: Count = 32
    accumulation: Count = 1
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    bf16: bool = False
    gradient_checkpointing: bool = False
    eval_batch_size: Count = 64
    tensorboard: bool = False
