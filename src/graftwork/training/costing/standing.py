"""One training with one batch in front of it: its step and its answer, to be timed; and what they take of memory."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import logging

from graftwork.api import Adapters
from graftwork.tasks import Rows, Task
from graftwork.training.costing.memory import forget_highest, highest_memory
from graftwork.training.planning.budget import StageBudget
from graftwork.training.planning.kinds import UNIT_KINDS
from graftwork.training.planning.plan import Unit
from graftwork.training.planning.recipe import Recipe
from graftwork.training.running.joint import set_up_joint
from graftwork.training.running.workshop import Workshop
from graftwork.training.trainers.encoding import Feature, batch_of
from graftwork.training.trainers.joint_trainer import Way
from graftwork.training.trainers.outputs import autocast_as


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a process is told that measures: all of it can be sent there.

    Attributes:
        recipe: The tables of the recipe.
        root: What its paths are relative to.
        run: The run's folder.
        tasks: Its tasks, without their rows.
        unit: What is measured.
        task: Whose batch it is.
        features: The batch.
        budget: Its ``bf16`` and ``gradient_checkpointing`` count.
    """

    recipe: Mapping[str, Any]
    root: Path
    run: Path
    tasks: Mapping[str, Task]
    unit: Unit
    task: str
    features: list[Feature]
    budget: StageBudget

    def shop(self) -> Workshop:
        """Where it is set up."""
        return Workshop(Recipe.make(self.recipe), self.root, self.run, self.tasks)


def without_rows(task: Task) -> Task:
    """A task that still knows its kind and its labels."""
    return dataclasses.replace(task, train=Rows(()), dev=Rows(()), test=None, elsewhere={})


class Standing:
    """A fresh base with what a unit trains on it, and one batch; adapters that it stands over are made anew.

    Args:
        asked: What is measured.
        shop: Where it is set up.
    """

    def __init__(self, asked: Asked, shop: Workshop) -> None:
        grafts, self._way = _set_up(asked.unit, shop, asked.task)
        model: Any = grafts.model
        self._model, self._grafts = model, grafts
        if asked.budget.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self._batch = batch_of(model, shop.tasks[asked.task].kind, asked.features, shop.processor)
        self._autocast = autocast_as(model, asked.budget.bf16)
        self._step = step_of(model, self._batch, self._autocast)

    def learn(self) -> None:
        """One step of training: forward, backward, and the optimiser's."""
        with self._active():
            self._step()

    def answer(self) -> None:
        """One forward pass in which nothing is learnt."""
        self._model.eval()
        with self._active(), torch.no_grad(), self._autocast():
            self._model(**self._batch).logits.float().cpu()

    def _active(self) -> Any:
        return contextlib.nullcontext() if self._way is None else self._way.on(self._grafts)


def step_of(model: Any, batch: Mapping[str, Tensor], autocast: Callable[[], Any]) -> Callable[[], None]:
    """One step of training that moves nothing, in the time that it takes: forward, backward, and the optimiser's."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)

    def step() -> None:
        model.train()
        with autocast():
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())  # wait for the accelerator

    return step


def _set_up(unit: Unit, shop: Workshop, task: str) -> tuple[Adapters, Way | None]:
    over = UNIT_KINDS[unit.kind].over
    if over == "all":
        grafts, ways = set_up_joint(unit, shop)
        return grafts, ways[task]
    if over == "sequence":  # each of its steps is that of one task
        unit = unit.step(task)
    return shop.set_up(unit, trained=False)[0], None


def peaks(asked: Asked) -> dict[str, int]:
    """The highest memory of two answers, then of two steps, in bytes beyond what the process has without a model.

    To be called in a process of its own. On an accelerator its memory counts, else that of the process.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    nn.Linear(8, 8)(torch.ones(8, 8)).sum().backward()  # what torch sets up once is no model's
    shop = asked.shop()
    bare = 0 if torch.cuda.is_available() else highest_memory()
    standing, found = Standing(asked, shop), {}
    for name, work in (("inference_bytes", standing.answer), ("train_bytes", standing.learn)):
        forget_highest()
        for _ in range(2):
            work()
        found[name] = max(0, highest_memory() - bare)
    return found
