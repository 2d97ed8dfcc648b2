"""Robust AdapterDrop training (Rücklé et al. 2021, arXiv:2010.11918): at every step the first n layers have no adapters.

    n ~ uniform {0, …, most}

The same weights then serve every depth: at inference `Drop` leaves out as many first layers as the time allows.
"""

from __future__ import annotations

import random
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from graftwork.attach import Handle, handle_of
from graftwork.compose import Composition, Drop
from graftwork.errors import ConfigError


def depth_at(step: int, most: int, seed: int = 0) -> int:
    """The number of first layers without adapters at a step: the same on every process, and after an interruption."""
    return random.Random(f"{seed}, {step}").randint(0, most)


class RandomDepth(TrainerCallback):
    """Draws, for every step of the optimiser, how many first layers have no adapters.

    After every step, what was active when the training began is active again in all layers, so that evaluation and
    checkpoints are as without it. Data-parallel training needs ``ddp_find_unused_parameters=True``: some weights have no
    gradient.

    Args:
        most: The largest number of layers left out; by default all but one. A step that leaves out all trains only the
            head.
        seed: Seed of the numbers drawn; by default the training's.

    Raises:
        ConfigError: If the model has fewer layers (when the training begins).
    """

    def __init__(self, most: int | None = None, seed: int | None = None) -> None:
        self.most, self.seed = most, seed
        self._whole: tuple[Composition, Any] = (None, None)
        self._range = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remember what is active."""
        handle = _handle(kwargs)
        layers = max(handle.sites.stacks.values(), default=0)
        self._range = layers - 1 if self.most is None else self.most
        if not isinstance(self._range, int) or isinstance(self._range, bool) or not 0 <= self._range <= layers:
            raise ConfigError(f"RandomDepth: most is {self.most!r}; the model has {layers} layers, give 0 to {layers}")
        if handle.active is None:
            raise ConfigError("RandomDepth: nothing is active; call train_only before the training")
        self._whole = handle.active, handle.runtime.head

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave out the number of first layers that is drawn."""
        seed = args.seed if self.seed is None else self.seed
        composition, head = self._whole
        _handle(kwargs).activate(Drop(composition, layers=depth_at(state.global_step, self._range, seed)), head=head)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Activate all layers again."""
        composition, head = self._whole
        _handle(kwargs).activate(composition, head=head)


def _handle(kwargs: dict[str, Any]) -> Handle:
    model = kwargs["model"]
    return handle_of(getattr(model, "module", model))
