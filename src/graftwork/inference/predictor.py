"""Predictions from the files of a run, in a fresh process: base, adapters, fusion and head, as they were trained."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.api import Adapters, attach
from graftwork.attach import ModelWithHeads
from graftwork.compose import Composition
from graftwork.errors import RecipeError
from graftwork.experiments.kinds import UNIT_KINDS, Unit
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.base import auto_class, load_base, load_processor
from graftwork.experiments.running.folder import read_result, recipe_of, root_of
from graftwork.experiments.running.hashes import hash_tokenizer
from graftwork.experiments.running.provenance import read_made_with
from graftwork.experiments.running.run_files import RunFiles
from graftwork.tasks import Kind, Prediction, Rows, TaskSpec, kinds
from graftwork.training.outputs import autocast_as, outputs_of

PREFERRED = ("fusion", "adapter")


class Predictor:
    """A task of a run, ready to predict.

    Args:
        run: The run's folder.
        task: The task; may be left out where the run has one target, or one task.
        kind: What predicts: ``"fusion"``, ``"adapter"``, ``"head"``, ``"average"`` and so on, or the name of a method; by default
            the fusion where the task has one, else its adapter, else whatever else is done.
        seed: Of the unit; by default the first that is done.
        language: Whose adapter stands under what predicts; by default that of the task's own rows.
        root: What the recipe's paths are relative to; by default where the recipe lay when the run began.
        adapters: The handle of the run's base with nothing on it, where it is loaded already (`RunFinder.adapters`).

    Attributes:
        task: The task's name.
        kind: What it knows of its kind.
        unit: The unit that predicts.

    Raises:
        RecipeError: If the run has no such task, or nothing of it is done.
    """

    def __init__(
        self,
        run: str | Path,
        task: str | None = None,
        *,
        kind: str | None = None,
        seed: int | None = None,
        language: str | None = None,
        root: str | Path | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        self.run = Path(run)
        self.recipe = recipe_of(self.run)
        self._root = root_of(self.run, root)
        self.task = _task(self.recipe, task)
        self.unit = unit_of(self.recipe, self.run, self.task, kind, seed)
        self.kind = kind_of(self.run, self.recipe, self.task)
        warn_of_other_tokenizer(self.unit, self.recipe, self._root, self.run)
        every = self.recipe.kinds
        self.processor = load_processor(self.recipe.base, every, self._root)
        if adapters is None:
            adapters = attach(load_base(self.recipe.base, auto_class(every), self._root).eval())
        self.adapters: Adapters = adapters
        composition, head = load_unit(
            self.adapters, self.unit, self.task, RunFiles(self.recipe, self._root, self.run), language
        )
        self.adapters.activate(composition, head=head)

    def typed(self, texts: Sequence[str]) -> Rows:
        """The row that some texts are, as one types them.

        Raises:
            TaskError: If the task wants others.
        """
        return Rows([self.kind.typed(texts)], source="the texts given")

    def check(self, rows: Rows) -> None:
        """Refuse rows that cannot be predicted.

        Raises:
            TaskError: If a row lacks something.
        """
        self.kind.check(rows, answered=False)

    def predict(self, rows: Rows | Iterable[Mapping[str, Any]], *, batch_size: int = 32) -> list[Prediction]:
        """What the task says of some rows.

        Args:
            rows: With the columns that the task reads; `columns` names them. Answers are not needed.
            batch_size: Rows a batch.

        Raises:
            TaskError: If a row lacks something.
        """
        rows = rows if isinstance(rows, Rows) else Rows(rows)
        if not rows:
            return []
        self.kind.check(rows, answered=False)
        features = self.kind.features(rows, self.processor, max_length=self.recipe.base.max_length, train=False)
        model: ModelWithHeads = self.adapters.model  # type: ignore[assignment]
        autocast = autocast_as(
            model, self.recipe.budget(self.unit.kind, self.unit.method).bf16
        )  # as it was trained and scored
        outputs, _ = outputs_of(model, self.kind, features, self.processor, batch_size, autocast)
        return self.kind.decode(outputs, features, rows, self.processor)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a row must have."""
        return type(self.kind).columns(self.kind.spec, train=False)

    @property
    def spec(self) -> TaskSpec:
        """The task, as the recipe has it."""
        return self.kind.spec


def kind_of(run: Path, recipe: Recipe, task: str) -> Kind:
    """A task's kind with the labels that it was trained with; its data is not read.

    Raises:
        RecipeError: If nothing of the task is done.
    """
    for unit in plan(recipe):
        result = read_result(unit, run) if task in (unit.task, *unit.tasks) else None
        if result is not None:
            spec, labels = recipe.tasks[task], result.get("tasks", {}).get(task, result)["labels"]
            return kinds[spec.kind](spec, tuple(labels), task)
    raise RecipeError(f"nothing of the task {task!r} is done in {run}; go on with `graftwork run`")


def only_task(recipe: Recipe) -> str | None:
    """The task of a run that goes without saying: its one target, or its one task."""
    known: Sequence[str] = recipe.targets or tuple(recipe.tasks)
    return known[0] if len(known) == 1 else None


def _task(recipe: Recipe, task: str | None) -> str:
    task = only_task(recipe) if task is None else task
    if task is None or task not in recipe.tasks:
        said = (
            "say which task (`predictor_for` finds that of a text)"
            if task is None
            else f"{task!r} is no task of this run"
        )
        raise RecipeError(f"{said}; there are {', '.join(recipe.tasks)}")
    return task


def unit_of(recipe: Recipe, run: Path, task: str, kind: str | None, seed: int | None) -> Unit:
    """The unit of a task that predicts.

    Raises:
        RecipeError: If none such is done.
    """
    units = [u for u in plan(recipe) if task in (u.task, *u.tasks) and seed in (None, u.seed)]
    done = [u for u in units if read_result(u, run) is not None and UNIT_KINDS[u.kind].predicts]
    rest = dict.fromkeys(u.kind for u in done) if kind is None else ()
    for wanted in (*PREFERRED, *rest) if kind is None else (kind,):
        found = next((u for u in done if wanted in (u.kind, u.method)), None)
        if found is not None:
            return found
    if kind is not None and kind in UNIT_KINDS and not UNIT_KINDS[kind].predicts:
        raise RecipeError(f"{UNIT_KINDS[kind].title} is measured and not kept to predict with; give another kind")
    have = ", ".join(f"{u.method or u.kind} (seed {u.seed})" for u in done) or "nothing"
    raise RecipeError(
        f"{run} has no {kind or 'fusion or adapter'} of {task!r}{'' if seed is None else f' with the seed {seed}'} that is "
        f"done; of that task it has {have}"
    )


def warn_of_other_tokenizer(unit: Unit, recipe: Recipe, root: Path, run: Path) -> None:
    """Warn where the tokenizer is another one than a unit was trained with; another base is refused when adapters are loaded."""
    record = read_made_with(unit, run)
    if record is not None and record["tokenizer"] != hash_tokenizer(recipe.base, root):
        warnings.warn(
            f"the tokenizer of {recipe.base.tokenizer or recipe.base.model!r} has changed since {unit.id} was trained: predictions "
            "may be wrong; take the change back, or train again with graftwork run --redo",
            stacklevel=3,
        )


def load_unit(
    adapters: Adapters, unit: Unit, task: str, files: RunFiles, language: str | None = None
) -> tuple[Composition, str]:
    """Put a unit's files on the model, and say what computes it: the composition, and the head in use with it.

    Args:
        adapters: The handle of the base; what is there already under a name is not read again.
        unit: The unit.
        task: The task that is predicted, one of the unit's.
        files: The run's.
        language: Whose adapter takes the place of that which the unit was stacked on.

    Raises:
        RecipeError: If there is no adapter of that language, or the unit is stacked on none.
    """
    if language is not None and not any(one.kind == "language" for one in unit.stacked_on):
        raise RecipeError(f"language is {language!r}, and {unit.id} is stacked on no language's adapter; leave it out")
    for below in unit.stacked_on:
        swapped = language is not None and below.kind == "language"
        found = dataclasses.replace(below, task=str(language)) if swapped else below
        at = files.adapter_folder(found)
        if not at.is_dir():
            raise RecipeError(f"{files.run} has no adapter of the {found.kind} {found.task!r}; {_others(found, files)}")
        if found.task not in adapters.names:
            adapters.load(at, found.task, head=False)
    return UNIT_KINDS[unit.kind].load(unit, task, adapters, files, language)


def _others(unit: Unit, files: RunFiles) -> str:
    of_kind = files.folder(unit).parents[1]
    there = sorted({*(path.name for path in of_kind.glob("*")), *files.recipe.trained})
    return f"there are those of {', '.join(there)}" if there else "there are none"
