"""One of several adapters that are trained at once: its rows, optimiser, schedule, and best weights so far."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import get_scheduler
from transformers.trainer_pt_utils import get_parameter_names

from graftwork.errors import TrainingError
from graftwork.training.budget import StageBudget
from graftwork.training.encoding import Encoded, Feature
from graftwork.training.recipe_trainer import run_out
from graftwork.training.task_trainer import ByLength

# names of the weights that Trainer does not decay
_NOT_DECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


@dataclasses.dataclass
class Learner:
    """The training of one adapter: its task and budget, and how far it is; it does not depend on the other adapters.

    Attributes:
        name: The adapter, which is on the model with a head of its own.
        encoded: Its task.
        budget: The budget of its training.
        seed: Seed of the order of its rows.
        steps: Optimiser steps so far.
        scores: The score on the dev rows after each epoch so far.
        losses: The number of steps after each epoch so far, and the epoch's mean loss.
    """

    name: str
    encoded: Encoded
    budget: StageBudget
    seed: int = 0
    steps: int = dataclasses.field(default=0, init=False)
    scores: list[float] = dataclasses.field(default_factory=list, init=False)
    losses: list[tuple[int, float]] = dataclasses.field(default_factory=list, init=False)

    def begin(self, model: nn.Module, weights: Sequence[Tensor]) -> None:
        """Make the optimiser and schedule for the adapter's weights, as a Trainer for it alone would.

        Args:
            model: The model that the adapter is on.
            weights: The adapter's trainable weights.

        Raises:
            TrainingError: If the budget accumulates gradients.
        """
        if self.budget.accumulation != 1:
            raise TrainingError(
                f"{self.name!r}: accumulation is {self.budget.accumulation}; adapters that learn at once take one batch a "
                "step: give accumulation = 1, or train this one by itself"
            )
        self.weights = list(weights)
        wanted = {id(weight) for weight in weights}
        decayed = set(get_parameter_names(model, [nn.LayerNorm], _NOT_DECAYED))
        named = [(name, p) for name, p in model.named_parameters() if id(p) in wanted]
        groups = [
            {"params": [p for name, p in named if name in decayed], "weight_decay": self.budget.weight_decay},
            {"params": [p for name, p in named if name not in decayed], "weight_decay": 0.0},
        ]
        total = self.steps_an_epoch * self.budget.epochs
        self.optimiser = torch.optim.AdamW(groups, lr=self.budget.learning_rate)
        self.schedule = get_scheduler(self.budget.schedule, self.optimiser, round(total * self.budget.warmup), total)
        self.best = [weight.detach().clone() for weight in weights]
        self._sum = 0.0
        self._batches: Iterator[list[Feature]] | None = None

    @property
    def train(self) -> list[Feature]:
        """The features of its training rows."""
        return self.encoded.features(self.encoded.task.train, train=True)

    @property
    def steps_an_epoch(self) -> int:
        """The number of batches of its training rows."""
        return math.ceil(len(self.train) / self.budget.batch_size)

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 0."""
        return self.steps // self.steps_an_epoch

    @property
    def ended(self) -> bool:
        """Whether all epochs are over, or there was no better score for too long."""
        return len(self.scores) >= self.budget.epochs or run_out(self.scores, self.budget.stops_after)

    def next_batch(self) -> list[Feature]:
        """The features of the next batch, which depends on the seed and the step alone."""
        if self._batches is None:
            train, size, done = self.train, self.budget.batch_size, self.steps % self.steps_an_epoch
            order = list(ByLength(self.encoded.task.lengths(train), size, self.seed, lambda: float(self.epoch)))
            self._batches = iter(
                [[train[i] for i in order[n : n + size]] for n in range(done * size, len(order), size)]
            )
        return next(self._batches)

    def step(self, loss: Tensor) -> bool:
        """Make one step of the optimiser, once the gradients are there; return whether an epoch ends with it.

        Raises:
            TrainingError: If the loss is not a number.
        """
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"{self.name!r}: the loss is {value} at step {self.steps + 1}; try a lower learning rate, bf16 = false, or "
                "look for broken rows"
            )
        nn.utils.clip_grad_norm_(self.weights, self.budget.max_grad_norm)
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad()
        self.steps += 1
        self._sum += value
        if self.steps % self.steps_an_epoch:
            return False
        self.losses.append((self.steps, self._sum / self.steps_an_epoch))
        self._sum, self._batches = 0.0, None
        return True

    def scored(self, score: float) -> None:
        """Note the score of an epoch, and keep the weights if it is the best."""
        if not self.scores or score > max(self.scores):
            self.best = [weight.detach().clone() for weight in self.weights]
        self.scores.append(score)

    @torch.no_grad()
    def keep_best(self) -> None:
        """Load the best weights into the adapter."""
        for weight, best in zip(self.weights, self.best, strict=True):
            weight.copy_(best)

    def state(self) -> dict[str, Any]:
        """The state of the training, for a checkpoint."""
        return {
            "weights": [weight.detach() for weight in self.weights],
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "steps": self.steps,
            "scores": self.scores,
            "losses": self.losses,
            "sum": self._sum,
        }

    @torch.no_grad()
    def resume(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        for weight, saved in zip(self.weights, state["weights"], strict=True):
            weight.copy_(saved)
        self.best = [best.to(weight.device) for best, weight in zip(state["best"], self.weights, strict=True)]
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.steps, self.scores, self.losses, self._sum = (state[k] for k in ("steps", "scores", "losses", "sum"))
        self._batches = None
