"""Predictions from the files of a run, in a fresh process: base, adapters, fusion and head, as they were trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.api import Adapters, attach
from graftwork.attach import Headed
from graftwork.compose import Average, Composition, Fuse
from graftwork.errors import RecipeError
from graftwork.tasks import Kind, Prediction, Rows, TaskSpec, kinds
from graftwork.training.base import auto_class, load_base, load_processor
from graftwork.training.folder import recipe_of, root_of
from graftwork.training.outputs import autocast_as, outputs_of
from graftwork.training.plan import Unit, plan
from graftwork.training.recipe import Recipe
from graftwork.training.stages import adapter_folder, fusion_name, member_name, over
from graftwork.training.unit import read_result

PREFERRED = ("fusion", "adapter")


class Predictor:
    """A task of a run, ready to predict.

    Args:
        run: The run's folder.
        task: The task; may be left out where the run has one target, or one task.
        kind: What predicts: ``"fusion"``, ``"adapter"``, ``"head"``, ``"average"``, ``"own"`` or ``"copies"``; by default
            the fusion where the task has one, else its adapter.
        seed: Of the unit; by default the first that is done.
        language: Whose adapter stands under what predicts; by default that of the task's own rows.
        root: What the recipe's paths are relative to; by default where the recipe lay when the run began.

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
    ) -> None:
        self.run = Path(run)
        self.recipe = recipe_of(self.run)
        self._root = Path(root) if root is not None else root_of(self.run)
        self.task = _task(self.recipe, task)
        self.unit = unit_of(self.recipe, self.run, self.task, kind, seed)
        self.kind = kind_of(self.run, self.recipe, self.task)
        every = self.recipe.kinds
        self.processor = load_processor(self.recipe.base, every, self._root)
        self.grafts: Adapters = attach(load_base(self.recipe.base, auto_class(every), self._root).eval())
        composition, head = load_unit(self.grafts, self.unit, self.recipe, self._root, self.run, language)
        self.grafts.activate(composition, head=head)

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
        model: Headed = self.grafts.model  # type: ignore[assignment]
        autocast = autocast_as(model, self.recipe.budget(self.unit.kind).bf16)  # as it was trained and scored
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
        result = read_result(unit.folder(run)) if unit.task == task else None
        if result is not None:
            spec = recipe.tasks[task]
            return kinds[spec.kind](spec, tuple(result["labels"]), task)
    raise RecipeError(f"nothing of the task {task!r} is done in {run}; go on with `graftwork run`")


def _task(recipe: Recipe, task: str | None) -> str:
    known: Sequence[str] = recipe.targets or tuple(recipe.tasks)
    if task is None and len(known) == 1:
        return known[0]
    if task is None or task not in recipe.tasks:
        said = "say which task" if task is None else f"{task!r} is no task of this run"
        raise RecipeError(f"{said}; there are {', '.join(recipe.tasks)}")
    return task


def unit_of(recipe: Recipe, run: Path, task: str, kind: str | None, seed: int | None) -> Unit:
    """The unit of a task that predicts.

    Raises:
        RecipeError: If none such is done.
    """
    units = [u for u in plan(recipe) if u.task == task and seed in (None, u.seed)]
    done = [u for u in units if read_result(u.folder(run)) is not None and u.kind != "full"]
    for wanted in PREFERRED if kind is None else (kind,):
        found = next((u for u in done if u.kind == wanted), None)
        if found is not None:
            return found
    if kind == "full":
        raise RecipeError("full fine-tuning is measured and not kept; predict with another kind")
    have = ", ".join(f"{u.kind} (seed {u.seed})" for u in done) or "nothing"
    raise RecipeError(
        f"{run} has no {kind or 'fusion or adapter'} of {task!r}{'' if seed is None else f' with the seed {seed}'} that is "
        f"done; of that task it has {have}"
    )


def load_unit(
    grafts: Adapters, unit: Unit, recipe: Recipe, root: Path, run: Path, language: str | None = None
) -> tuple[Composition, str]:
    """Put a unit's files on the model, and say what computes it: the composition, and the head in use with it.

    Args:
        grafts: The handle of the base; what is there already under a name is not read again.
        unit: The unit.
        recipe: The run's recipe.
        root: What its paths are relative to.
        run: The run's folder.
        language: Whose adapter takes the place of that which the unit was trained over.

    Raises:
        RecipeError: If there is no adapter of that language, or the unit stands over none.
    """
    if language is not None and not any(member.kind == "language" for member in unit.under):
        raise RecipeError(f"language is {language!r}, and {unit.id} stands over no language's adapter; leave it out")
    for member in unit.under:
        swapped = language is not None and member.kind == "language"
        found = dataclasses.replace(member, task=str(language)) if swapped else member
        at = adapter_folder(found, recipe, root, run)
        if not at.is_dir():
            raise RecipeError(f"{run} has no adapter of the {found.kind} {found.task!r}; {_others(found, recipe, run)}")
        if found.task not in grafts.names:
            grafts.load(at, found.task, head=False)
    names = [member_name(unit, member) for member in unit.members]
    for name, member in zip(names, unit.members, strict=True):
        if name not in grafts.names:
            grafts.load(adapter_folder(member, recipe, root, run), name, head=member.kind == "adapter")
    folder = unit.folder(run)
    if unit.kind == "adapter":
        if unit.task not in grafts.names:
            grafts.load(folder / "adapter", unit.task, head=True)
        return over(unit, unit.task, language), unit.task
    if unit.kind in ("head", "average"):
        return over(unit, Average(*names), language) if names else None, str(grafts.load(folder / "head"))
    grafts.load(folder / "fusion", head=True)
    return over(unit, Fuse(*names, name=fusion_name(unit)), language), fusion_name(unit)


def _others(unit: Unit, recipe: Recipe, run: Path) -> str:
    of_kind = unit.folder(run).parents[1]
    there = sorted({*(path.name for path in of_kind.glob("*")), *recipe.trained})
    return f"there are those of {', '.join(there)}" if there else "there are none"
