"""Predictions of several tasks in one pass: each row is in the batch once for each task, with its adapters and head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from graftwork.api import Adapters
from graftwork.compose import BatchSplit, Composition
from graftwork.errors import RecipeError
from graftwork.experiments.kinds import UNIT_KINDS, Unit
from graftwork.experiments.running.base import load_processor
from graftwork.experiments.running.folder import recipe_of, root_of
from graftwork.experiments.running.run_files import RunFiles
from graftwork.inference.predictor import attached_base, kind_of, load_unit, unit_of, warn_of_other_tokenizer
from graftwork.tasks import Prediction, Rows, kinds
from graftwork.training.concatenated_batches import merged, padding_of
from graftwork.training.encoding import batch_of
from graftwork.training.outputs import autocast_as, evaluating
from graftwork.training.precision import Precision


class Several:
    """Several tasks of a run, ready to predict together.

    Args:
        run: The run's folder.
        tasks: Two of its tasks or more. Each is predicted by its fusion where it has one, else by its adapter.
        seed: The seed of their units; by default the first that is done.
        root: The folder that the recipe's paths are relative to; by default the recipe's folder when the run began.

    Raises:
        RecipeError: If the run has no such task, nothing of it is done, or its answers are generated.
    """

    def __init__(
        self, run: str | Path, tasks: Sequence[str], *, seed: int | None = None, root: str | Path | None = None
    ) -> None:
        self.run, self.tasks = Path(run), tuple(tasks)
        self.recipe = recipe_of(self.run)
        root = root_of(self.run, root)
        self._check_tasks()
        self.units = {task: unit_of(self.recipe, self.run, task, None, seed) for task in self.tasks}
        self.kinds = {task: kind_of(self.run, self.recipe, task, unit) for task, unit in self.units.items()}
        for unit in self.units.values():
            warn_of_other_tokenizer(unit, self.recipe, root, self.run)
        check_units(self.units)
        self.processor = load_processor(self.recipe.base, self.recipe.kinds, root)
        self.adapters: Adapters = attached_base(self.recipe, root)
        files = RunFiles(self.recipe, root, self.run)
        loaded = {task: load_unit(self.adapters, unit, task, files) for task, unit in self.units.items()}
        self._parts: tuple[Composition, ...] = tuple(composition for composition, _ in loaded.values())
        self._heads = {task: head for task, (_, head) in loaded.items()}

    def typed(self, texts: Sequence[str]) -> dict[str, Rows]:
        """The row of some typed texts, for each task.

        Raises:
            TaskError: If a task needs other texts.
        """
        return {task: Rows([kind.typed(texts)], source="the texts given") for task, kind in self.kinds.items()}

    def check(self, rows: Rows) -> None:
        """Refuse rows that some task cannot predict.

        Raises:
            TaskError: If a row lacks a column or a value.
        """
        for kind in self.kinds.values():
            kind.check(rows, answered=False)

    def predict(
        self, rows: Mapping[str, Rows] | Rows | Iterable[Mapping[str, Any]], *, batch_size: int = 32
    ) -> list[dict[str, Prediction]]:
        """Predict every task for some rows.

        Args:
            rows: Rows with the columns that all tasks read; or for each task, by its name, the same number of rows.
            batch_size: How many rows are in a pass; each is computed once for every task.

        Returns:
            For each row the prediction of every task.

        Raises:
            TaskError: If a row lacks a column or a value.
            RecipeError: If a task reads a row in several windows.
        """
        by_task: Any = rows
        if not isinstance(rows, Mapping):
            by_task = dict.fromkeys(self.tasks, rows if isinstance(rows, Rows) else Rows(rows))
        features: dict[str, list[Any]] = {}
        for task, kind in self.kinds.items():
            kind.check(by_task[task], answered=False)
            features[task] = kind.features(
                by_task[task], self.processor, max_length=self.recipe.base.max_length, train=False
            )
            if len(features[task]) != len(by_task[task]):
                raise RecipeError(f"task {task!r} reads a row in several windows; predict it by itself")
        count = len(by_task[self.tasks[0]])
        found: dict[str, list[Any]] = {task: [] for task in self.tasks}
        for start in range(0, count, batch_size):
            some = {task: all_of[start : start + batch_size] for task, all_of in features.items()}
            for task, outputs in self._outputs(some).items():
                found[task] += outputs
        decoded = {
            task: kind.decode(found[task], features[task], by_task[task], self.processor)
            for task, kind in self.kinds.items()
        }
        return [{task: decoded[task][n] for task in self.tasks} for n in range(count)]

    def _outputs(self, features: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return the outputs of each task, from one pass over the rows of all tasks."""
        model: Any = self.adapters.model
        batches = {task: batch_of(model, self.kinds[task], some, self.processor) for task, some in features.items()}
        inputs, labels = merged(batches, padding_of(self.processor))
        sizes = [len(some) for some in features.values()]
        wanted = [self.recipe.budget(unit.kind).precision_on(model.device) for unit in self.units.values()]
        lower: list[Precision] = [one for one in wanted if one != "float32"]
        composition = BatchSplit(*self._parts, batch_sizes=sizes)
        with (
            evaluating(model),
            torch.no_grad(),
            autocast_as(model, lower[0] if lower else "float32")(),
            self.adapters.using(composition),
        ):
            by_head = model(**inputs).by_head
        return {
            task: list(self.kinds[task].reduce(by_head[head].logits, labels.get(task)).float().cpu())
            for task, head in self._heads.items()
        }

    def _check_tasks(self) -> None:
        if len(set(self.tasks)) < 2 or len(set(self.tasks)) < len(self.tasks):
            raise RecipeError(f"tasks is {list(self.tasks)}; give two or more, each once")
        for task in self.tasks:
            if task not in self.recipe.tasks:
                raise RecipeError(f"{task!r} is no task of this run; there are {', '.join(self.recipe.tasks)}")
            if kinds[self.recipe.tasks[task].kind].generates:
                raise RecipeError(f"the answers of {task!r} are generated word by word; predict it by itself")


def check_units(units: Mapping[str, Unit]) -> None:
    """Refuse units that cannot be on one base: an adapter of two seeds, or one trained with a base of its own."""
    trained: dict[str, Unit] = {}
    for unit in units.values():
        for member in unit.members or (unit,):
            if trained.setdefault(member.task, member) != member:
                raise RecipeError(
                    f"the adapter {member.task!r} is in these fusions with the seeds {trained[member.task].seed} and "
                    f"{member.seed}; predict them by themselves, or with the first seed of the run"
                )
    for task, unit in units.items():
        if UNIT_KINDS[unit.kind].trains_base or any(UNIT_KINDS[member.kind].trains_base for member in unit.members):
            raise RecipeError(
                f"{task!r} is predicted by {unit.id}, which was trained with a base of its own; predict it by itself"
            )
