"""A Trainer whose checkpoints hold the trained weights and nothing of the frozen base, and the callback that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from graftwork.attach import Handle, added_apart, handle_of
from graftwork.checkpoint import has_progress, restore_progress, save_progress
from graftwork.errors import AttachError


class AdapterCallback(TrainerCallback):
    """A callback that counts the optimiser's steps for an attached model, by which a fusion's temperature falls.

    `AdapterTrainer` has one; give one to a `transformers.Trainer` that trains a fusion with a temperature.
    """

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count a step, if the optimiser made one: mixed precision skips some."""
        if not getattr(kwargs.get("optimizer"), "step_was_skipped", False):
            model = kwargs["model"]
            handle_of(getattr(model, "module", model)).on_optimizer_step()


class AdapterTrainer(Trainer):
    """A `transformers.Trainer` for an attached model: its checkpoints hold the adapters and not the base.

    Use it as any Trainer, after `train_only`. A checkpoint holds the adapters and fusions that are trained, their heads,
    and any other trainable weights, next to Trainer's own files. ``resume_from_checkpoint`` continues exactly, on a model
    that was attached and given the same adapters and the same `train_only` as when the training began.
    ``load_best_model_at_end`` works. ``<checkpoint>/graftwork`` is a folder that `Adapters.load` reads.

    A checkpoint of a plain Trainer, which holds the base, can be resumed too.

    As a mixin it does the same for another Trainer: ``class Both(AdapterTrainer, SentenceTransformerTrainer)`` loads the
    best adapters at the end. A SentenceTransformerTrainer alone cannot: it logs that, and keeps the last ones.

    Raises:
        AttachError: If nothing is attached to the model, or its weights are sharded (FSDP, DeepSpeed).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adapters  # noqa: B018  # raises now, not at the first checkpoint, where nothing is attached
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise AttachError(
                "AdapterTrainer does not gather sharded weights; use transformers.Trainer with FSDP or DeepSpeed"
            )
        if not any(isinstance(callback, AdapterCallback) for callback in self.callback_handler.callbacks):
            self.add_callback(AdapterCallback())

    @property
    def adapters(self) -> Handle:
        """The handle of the model."""
        model: Any = self.model
        return handle_of(model)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Trainer's loss, plus in training the extra losses of what is trained, however the loss is computed."""
        adapters = self.adapters
        with added_apart(adapters.runtime):
            result: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        extra = adapters.auxiliary_loss_or_none() if model.training else None
        part = self.part_of_step(inputs)
        if extra is None and part == 1.0:
            return result
        loss, outputs = result if return_outputs else (result, None)
        loss = loss * part
        if extra is not None:
            loss = loss + self.share_of_step(extra, num_items_in_batch).to(loss.device)
        return (loss, outputs) if return_outputs else loss

    def part_of_step(self, inputs: dict[str, Any]) -> float:
        """Return what a micro-batch's loss is multiplied by, so that accumulation gives the loss of one large batch."""
        return 1.0

    def share_of_step(self, extra: Tensor, num_items_in_batch: Any) -> Tensor:
        """Return what to add to a micro-batch's loss for an extra loss that is to count once a step."""
        steps = getattr(self, "current_gradient_accumulation_steps", 1) if self._is_scaled(num_items_in_batch) else 1
        return extra / steps

    def _is_scaled(self, num_items_in_batch: Any) -> bool:
        """Whether the loss of a micro-batch is already divided by their number; else Trainer does that afterwards."""
        scaled: bool | None = getattr(self, "loss_is_scaled_for_ga", None)  # not in the oldest transformers
        if scaled is not None:
            return scaled
        return self.compute_loss_func is not None or (self.model_accepts_loss_kwargs and num_items_in_batch is not None)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        save_progress(self.adapters, folder)
        tokenizer = self.processing_class or getattr(self.data_collator, "tokenizer", None)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        torch.save(self.args, folder / "training_args.bin")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if has_progress(Path(resume_from_checkpoint)):
            restore_progress(self.adapters, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        best = Path(str(self.state.best_model_checkpoint))
        if has_progress(best):
            restore_progress(self.adapters, best)
        else:
            super()._load_best_model()
