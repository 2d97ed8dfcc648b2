"""The budget of each kind of training: how long and how fast."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from graftwork.experiments.kinds import UNIT_KINDS
from graftwork.training.budget import Count, Decay, EarlyStopping, Rate, Share, StageBudget
from graftwork.training.precision import Precision

# The defaults of a kind whose own table does not say; [training] does not change them.
_DEFAULTS = {"fusion": {"learning_rate": 5e-5}, "full": {"learning_rate": 2e-5}, "scalearn": {"learning_rate": 6e-3}}


class Changes(BaseModel):
    """What one kind of training changes; the keys are those of ``[training]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: Count | None = None
    patience: Count | None = None
    early_stopping: EarlyStopping | None = None
    learning_rate: Rate | None = None
    weight_decay: Decay | None = None
    warmup: Share | None = None
    schedule: Literal["linear", "cosine", "constant_with_warmup", "constant"] | None = None
    batch_size: Count | None = None
    accumulation: Count | None = None
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    bf16: bool | None = None
    precision: Precision | Literal["auto"] | None = None
    gradient_checkpointing: bool | None = None
    eval_batch_size: Count | None = None

    def changed(self) -> dict[str, Any]:
        """The values that are changed."""
        found = self.model_dump(exclude_none=True)
        return {"precision": None, **found} if "bf16" in found else found

    @model_validator(mode="after")
    def _one_precision(self) -> Changes:
        refuse_both(self)
        return self


def refuse_both(table: BaseModel) -> None:
    """Refuse ``bf16`` and ``precision`` in one table.

    Raises:
        ValueError: If both are there.
    """
    if {"bf16", "precision"} <= table.model_fields_set:
        raise ValueError("bf16 and precision both say what is computed in; leave bf16 out")


class Budget(StageBudget):
    """``[training]``, with ``[training.adapter]`` and so on for what one kind of training changes.

    The defaults are those of the papers where they have some (arXiv:2005.00247, 2310.01217): 1e-4 for adapters, 5e-5 for
    fusions, 6e-3 for ScaLearn. The learning rates of fusions, of ScaLearn and of full fine-tuning (2e-5) are changed in their
    own tables alone.

    Attributes:
        adapter: Adapters of tasks, and every kind that says so below.
        fusion: Fusions, also those of the controls.
        scalearn: ScaLearn.
        route: Gates that choose among adapters.
        average: The head on a uniform mean, on merged weights, and under ``arrow``.
        head: The head only.
        full: Full fine-tuning, and every kind that says so below.
        longer: A longer training; otherwise ``adapter``.
        intermediate: An adapter that starts from a source's; otherwise ``adapter``.
        intermediate_full: Full fine-tuning that starts from a source's; otherwise ``full``.
        sequential: Each step of a sequence; otherwise ``full``.
        multitask: Full fine-tuning on all tasks; otherwise ``full``.
        mt_shared: A shared adapter; otherwise ``adapter``.
        tuned: A base trained on top of the adapters of a task's knowledge; otherwise ``full``.
        new_task: A task that joins a shared adapter later; otherwise ``adapter``.
        mt_joint: Adapters trained with the base; otherwise ``full``.
        fusion_mt: A fusion of those; otherwise ``fusion``.
        language: Adapters of languages.
        knowledge: Adapters of knowledge.
    """

    adapter: Changes = Changes()
    fusion: Changes = Changes()
    scalearn: Changes = Changes()
    route: Changes = Changes()
    average: Changes = Changes()
    head: Changes = Changes()
    full: Changes = Changes()
    longer: Changes = Changes()
    intermediate: Changes = Changes()
    intermediate_full: Changes = Changes()
    sequential: Changes = Changes()
    multitask: Changes = Changes()
    mt_shared: Changes = Changes()
    tuned: Changes = Changes()
    new_task: Changes = Changes()
    mt_joint: Changes = Changes()
    fusion_mt: Changes = Changes()
    language: Changes = Changes()
    knowledge: Changes = Changes()

    @model_validator(mode="after")
    def _one_precision(self) -> Budget:
        refuse_both(self)
        return self

    def of(self, kind: str, changes: Changes | None = None) -> StageBudget:
        """The budget of a kind of training.

        Args:
            kind: The kind of unit.
            changes: What one method changes; the kind's own table overrides it.
        """
        values = {name: getattr(self, name) for name in StageBudget.model_fields}
        for number, table in enumerate(UNIT_KINDS[kind].budget):
            values |= _DEFAULTS.get(table, {})
            if table == "longer":  # as many steps as both stages together, without early stopping
                values |= {"epochs": values["epochs"] + self.of("fusion").epochs, "patience": None}
                if values["early_stopping"] is not None:
                    chosen = EarlyStopping.model_validate(values["early_stopping"])
                    values["early_stopping"] = chosen.model_copy(update={"patience": None})
            values |= getattr(self, table).changed()
            if number == 0 and changes is not None:
                values |= changes.changed()
        return StageBudget(**values)
