"""How long and how fast each kind of training learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from graftwork.experiments.kinds import UNIT_KINDS
from graftwork.training.budget import Count, Decay, Rate, Share, StageBudget

# What a kind does otherwise where its own table does not say, whatever [training] says.
_DEFAULTS = {
    "fusion": {"learning_rate": 5e-5},
    "full": {"learning_rate": 2e-5},
    "scalearn": {"learning_rate": 6e-3},
}


class Changes(BaseModel):
    """What one kind of training does otherwise; the keys are those of ``[training]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: Count | None = None
    patience: Count | None = None
    learning_rate: Rate | None = None
    weight_decay: Decay | None = None
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

    The defaults are those of the papers where they have some (arXiv:2005.00247, 2310.01217): 1e-4 for adapters, 5e-5 for
    fusions, 6e-3 for ScaLearn. The learning rates of fusions, of ScaLearn and of full fine-tuning (2e-5) are changed in their
    own tables alone.

    Attributes:
        adapter: Adapters of tasks, all that is alike too.
        fusion: Fusions, those of the controls too.
        scalearn: ScaLearn.
        average: The head over a uniform mean.
        head: The head only.
        full: Full fine-tuning, all that is alike too.
        longer: What a longer training does otherwise than ``adapter``.
        intermediate: What an adapter that starts from a source's does otherwise than ``adapter``.
        intermediate_full: The same of full fine-tuning.
        sequential: What each step of a sequence does otherwise than ``full``.
        multitask: What full fine-tuning on all tasks does otherwise than ``full``.
        mt_shared: What a shared adapter does otherwise than ``adapter``.
        tuned: What a base over the adapters of what a task knows does otherwise than ``full``.
        new_task: What a task that joins a shared adapter later does otherwise than ``adapter``.
        mt_joint: What adapters trained with the base do otherwise than ``full``.
        fusion_mt: What a fusion of those does otherwise than ``fusion``.
        language: Adapters of languages.
        knowledge: Adapters of knowledge.
    """

    adapter: Changes = Changes()
    fusion: Changes = Changes()
    scalearn: Changes = Changes()
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

    def of(self, kind: str, changes: Changes | None = None) -> StageBudget:
        """The budget of a kind of training.

        Args:
            kind: The kind of unit.
            changes: What one method does otherwise; the kind's own table comes after it.
        """
        values = {name: getattr(self, name) for name in StageBudget.model_fields}
        for number, table in enumerate(UNIT_KINDS[kind].budget):
            values |= _DEFAULTS.get(table, {})
            if table == "longer":  # as many steps as both stages together, none of them saved
                values |= {"epochs": values["epochs"] + self.of("fusion").epochs, "patience": None}
            values |= getattr(self, table).model_dump(exclude_none=True)
            if number == 0 and changes is not None:
                values |= changes.model_dump(exclude_none=True)
        return StageBudget(**values)
