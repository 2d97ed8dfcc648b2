"""Predictions from the files of a run, in a new process: base, adapters, fusion and head, as they were trained."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from graftwork.api import Adapters, attach
from graftwork.attach import ModelWithHeads
from graftwork.compose import Composition
from graftwork.errors import RecipeError
from graftwork.experiments.kinds import UNIT_KINDS, Unit
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.planning.validation_messages import key_of, message_of
from graftwork.experiments.running.base import auto_class, load_base, load_processor
from graftwork.experiments.running.folder import read_result, recipe_of, root_of
from graftwork.experiments.running.hashes import hash_tokenizer
from graftwork.experiments.running.provenance import read_made_with
from graftwork.experiments.running.run_files import RunFiles
from graftwork.tasks import Kind, Prediction, Rows, TaskSpec, kinds
from graftwork.tasks.decisions import Decision
from graftwork.training.outputs import Autocast, autocast_as, outputs_of

PREFERRED = ("fusion", "adapter")  # the kinds of units that predict by default


class Predictor:
    """A task of a run, ready to predict.

    Args:
        run: The run's folder.
        task: The task; may be left out where the run has one target, or one task.
        kind: The kind of unit that predicts: ``"fusion"``, ``"adapter"``, ``"head"``, ``"average"`` and so on, or the name of a
            method; by default the fusion where the task has one, else its adapter, else any other unit that is done.
        seed: The unit's seed; by default the first that is done.
        language: The language whose adapter the unit is stacked on; by default that of the task's own rows.
        root: The folder that the recipe's paths are relative to; by default the recipe's folder when the run began.
        adapters: The handle of the run's base without adapters, where it is loaded already (`RunFinder.adapters`).

    Attributes:
        task: The task's name.
        kind: The task's kind, with its labels.
        unit: The unit that predicts.
        run: The run's folder.
        recipe: The run's recipe.
        root: The folder that its paths are relative to.
        adapters: The handle of the base, with what predicts active.

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
        self.root = root_of(self.run, root)
        self.task = _task(self.recipe, task)
        self.unit = unit_of(self.recipe, self.run, self.task, kind, seed)
        self.kind = kind_of(self.run, self.recipe, self.task, self.unit)
        warn_of_other_tokenizer(self.unit, self.recipe, self.root, self.run)
        self.processor = load_processor(self.recipe.base, self.recipe.kinds, self.root)
        self.adapters: Adapters = attached_base(self.recipe, self.root) if adapters is None else adapters
        files = RunFiles(self.recipe, self.root, self.run)
        composition, head = load_unit(self.adapters, self.unit, self.task, files, language)
        self.adapters.activate(composition, head=head)

    def typed(self, texts: Sequence[str]) -> Rows:
        """The row of some typed texts.

        Raises:
            TaskError: If the task needs other texts.
        """
        return Rows([self.kind.typed(texts)], source="the texts given")

    def check(self, rows: Rows) -> None:
        """Refuse rows that cannot be predicted.

        Raises:
            TaskError: If a row lacks a column or a value.
        """
        self.kind.check(rows, answered=False)

    def predict(self, rows: Rows | Iterable[Mapping[str, Any]], *, batch_size: int = 32) -> list[Prediction]:
        """Predict some rows.

        Args:
            rows: Rows with the columns that the task reads (`columns`). Answers are not needed.
            batch_size: How many rows are in a batch.

        Returns:
            A prediction for each row.

        Raises:
            TaskError: If a row lacks a column or a value.
        """
        rows = rows if isinstance(rows, Rows) else Rows(rows)
        if not rows:
            return []
        self.check(rows)
        features = self.kind.features(rows, self.processor, max_length=self.recipe.base.max_length, train=False)
        outputs, _ = outputs_of(self.model, self.kind, features, self.processor, batch_size, self.autocast)
        return self.kind.decode(outputs, features, rows, self.processor)

    def generate_with(self, **options: Any) -> None:
        """Change how answers are generated, where the task's kind generates.

        Args:
            options: ``temperature``, ``top_p``, ``top_k``, ``max_new_tokens``, ``num_beams`` or ``sampling_seed``, as in a
                `TaskSpec`; ``None`` for what the task says.

        Raises:
            RecipeError: If an option has a value that it cannot have.
            TaskError: If it means nothing for the kind.
        """
        given = {name: value for name, value in options.items() if value is not None}
        try:
            spec = TaskSpec(**{**self.spec.model_dump(exclude_unset=True), **given})
        except ValidationError as error:
            first = error.errors()[0]
            raise RecipeError(f"{key_of(first['loc'])}: {message_of(first, TaskSpec)}") from error
        if given:
            self.kind.check_spec(self.task, spec)
            self.kind = type(self.kind)(spec, self.kind.labels, self.task)

    @property
    def model(self) -> ModelWithHeads:
        """The model, with what predicts active."""
        return self.adapters.model  # type: ignore[return-value]

    @property
    def autocast(self) -> Autocast:
        """The context of the precision that it was trained and scored in."""
        budget = self.recipe.budget(self.unit.kind, self.unit.method)
        return autocast_as(self.model, budget.precision_on(self.model.device))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a row must have."""
        return type(self.kind).columns(self.kind.spec, train=False)

    @property
    def spec(self) -> TaskSpec:
        """The task in the recipe."""
        return self.kind.spec


def attached_base(recipe: Recipe, root: Path) -> Adapters:
    """Load the base of a recipe, without adapters."""
    return attach(load_base(recipe.base, auto_class(recipe.kinds), root).eval())


def kind_of(run: Path, recipe: Recipe, task: str, unit: Unit) -> Kind:
    """Return a task's kind with the labels that it was trained with, and a unit's threshold and temperature; no data is read."""
    for other in (unit, *plan(recipe)):
        result = read_result(other, run) if task in (other.task, *other.tasks) else None
        if result is not None:
            spec, scores = recipe.tasks[task], (result.get("tasks") or {}).get(task, result)
            kind = kinds[spec.kind].variant(spec)(spec, tuple(scores["labels"]), task)
            fitted = scores.get("decision")
            return kind if fitted is None or other != unit else kind.with_decision(Decision(**fitted))
    raise RecipeError(f"nothing of the task {task!r} is done in {run}; go on with `graftwork run`")


def only_task(recipe: Recipe) -> str | None:
    """Return the only target of a run, or its only task; ``None`` where there are several."""
    known: Sequence[str] = recipe.targets or tuple(recipe.tasks)
    return known[0] if len(known) == 1 else None


def _task(recipe: Recipe, task: str | None) -> str:
    task = only_task(recipe) if task is None else task
    if task is not None and task in recipe.tasks:
        return task
    what = (
        "say which task (`predictor_for` finds that of a text)" if task is None else f"{task!r} is no task of this run"
    )
    raise RecipeError(f"{what}; there are {', '.join(recipe.tasks)}")


def unit_of(recipe: Recipe, run: Path, task: str, kind: str | None, seed: int | None) -> Unit:
    """Return the unit that predicts a task, among those that are done."""
    units = [u for u in plan(recipe) if task in (u.task, *u.tasks) and seed in (None, u.seed)]
    done = [u for u in units if read_result(u, run) is not None and UNIT_KINDS[u.kind].predicts]
    for wanted in (*PREFERRED, *(u.kind for u in done)) if kind is None else (kind,):
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
    """Warn if the tokenizer has changed since a unit was trained; another base is refused when adapters are loaded."""
    record = read_made_with(unit.folder(run))
    if record is not None and record["tokenizer"] != hash_tokenizer(recipe.base, root):
        warnings.warn(
            f"the tokenizer of {recipe.base.tokenizer or recipe.base.model!r} has changed since {unit.id} was trained: predictions "
            "may be wrong; take the change back, or train again with graftwork run --redo",
            stacklevel=3,
        )


def load_unit(
    adapters: Adapters, unit: Unit, task: str, files: RunFiles, language: str | None = None
) -> tuple[Composition, str]:
    """Load a unit's adapters and fusions, and return the composition and the head that predict one of its tasks.

    An adapter that is on the model already is not loaded again. With a ``language``, its adapter replaces the one of the language
    that the unit was stacked on.
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
