"""How long and how fast each kind of training learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(gt=0, lt=10)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class StageBudget(BaseModel):
    """The budget of one training.

    Attributes:
        epochs: At most.
        patience: Epochs without a better score before it stops; ``None``: never.
        learning_rate: At its highest.
        weight_decay: Of the optimiser.
        warmup: Share of all steps in which the rate rises.
        schedule: How the rate falls.
        batch_size: Rows a step (questions, for multiple choice), before accumulation.
        accumulation: Batches a step.
        max_grad_norm: Gradients are cut to it.
        bf16: Compute in bfloat16 (autocast).
        gradient_checkpointing: Less memory, more time.
        eval_batch_size: Rows a batch when nothing is learnt.
        tensorboard: Write logs for TensorBoard into the run's folder ``tensorboard``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: Count = 10
    patience: Count | None = 3
    learning_rate: Rate = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Share = 0.06
    schedule: Literal["linear", "cosine", "constant_with_warmup", "constant"] = "linear"
    batch_size: Count = 32
    accumulation: Count = 1
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    bf16: bool = False
    gradient_checkpointing: bool = False
    eval_batch_size: Count = 64
    tensorboard: bool = False


# What a kind does otherwise where its own table does not say, whatever [training] says.
_DEFAULTS = {"fusion": {"learning_rate": 5e-5}, "full": {"learning_rate": 2e-5}}


class Changes(BaseModel):
    """What one kind of training does otherwise; the keys are those of ``[training]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: Count | None = None
    patience: Count | None = None
    learning_rate: Rate | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    warmup: Share | None = None
    schedule: Literal["linear", "cosine", "constant_with_warmup", "constant"] | None = None
    batch_size: Count | None = None
    accumulation: Count | None = None
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    bf16: bool | None = None
    gradient_checkpointing: bool | None = None
    eval_batch_size: Count | None = None


class Budget(StageBudget):
    """``[training]``, with ``[training.adapter]`` and so on for what differs.

    The defaults are those of the paper where it has some (arXiv:2005.00247): 1e-4 for adapters, 5e-5 for fusions. The
    learning rates of fusions and of full fine-tuning (2e-5) are changed in their own tables alone.

    Attributes:
        adapter: Adapters of tasks.
        fusion: Fusions, those of the controls too.
        average: The head over a uniform mean.
        head: The head only.
        full: Full fine-tuning.
        language: Adapters of languages.
        knowledge: Adapters of knowledge.
    """

    adapter: Changes = Changes()
    fusion: Changes = Changes()
    average: Changes = Changes()
    head: Changes = Changes()
    full: Changes = Changes()
    language: Changes = Changes()
    knowledge: Changes = Changes()

    def of(self, kind: str) -> StageBudget:
        """The budget of a kind of training."""
        kind = "fusion" if kind in ("own", "copies") else kind
        shared = {name: getattr(self, name) for name in StageBudget.model_fields}
        changed: Changes = getattr(self, kind)
        return StageBudget(**{**shared, **_DEFAULTS.get(kind, {}), **changed.model_dump(exclude_none=True)})
