"""What a Trainer has to tell the adapters."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from graftwork.attach import handle_of


class AdapterCallback(TrainerCallback):
    """Tells an attached model of every step of the optimiser, so that temperatures fall by it.

    `AdapterTrainer` has one; give one to a `transformers.Trainer` that trains a fusion with a temperature.
    """

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """One step further, if the optimiser made one: mixed precision leaves steps out."""
        if not getattr(kwargs.get("optimizer"), "step_was_skipped", False):
            model = kwargs["model"]
            handle_of(getattr(model, "module", model)).on_optimizer_step()
