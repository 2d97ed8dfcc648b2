"""What a run has trained for a task, made ready to be sent to the Hub: its files, and a card with the run's facts."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.checkpoint.saving import everything_in
from graftwork.compose import Composition
from graftwork.errors import RecipeError
from graftwork.experiments.kinds import UNIT_KINDS
from graftwork.experiments.running.folder import read_result
from graftwork.experiments.running.provenance import read_made_with
from graftwork.hub import Prepared, Score, TrainingFacts, Wishes, prepare
from graftwork.hub.client import require_id
from graftwork.inference import Predictor
from graftwork.report.run_data import gather
from graftwork.tasks import TaskSpec

_FOLDER = "push"  # in a run's folder
# The Hub's names of tasks.
_TYPES = {
    "regression": "text-classification",
    "tagging": "token-classification",
    "question_answering": "question-answering",
    "multiple_choice": "multiple-choice",
    "text_to_text": "text2text-generation",
    "generation": "text-generation",
    "causal_lm": "text-generation",
    "masked_lm": "fill-mask",
    "image_classification": "image-classification",
}


def prepare_run(
    run: str | Path,
    task: str | None,
    repository: str,
    wishes: Wishes,
    *,
    kind: str | None = None,
    seed: int | None = None,
    root: str | Path | None = None,
) -> Prepared:
    """Write what a run has trained for a task into the run's folder ``push``, with a card, as it is sent to the Hub.

    Args:
        run: The run's folder.
        task: The task; may be ``None`` where the run has one target, or one task.
        repository: The id of the repository.
        wishes: How it is sent.
        kind: As for `Predictor`: by default the fusion where the task has one, with its pool, else its adapter.
        seed: The unit's seed; by default the first that is done.
        root: The folder that the recipe's paths are relative to.

    Raises:
        ConfigError: If the id is none.
        RecipeError: If nothing of that task is done, or it was trained together with the base.
        CheckpointError: If it cannot be saved in the format.
    """
    require_id(repository)
    found = Predictor(run, task, kind=kind, seed=seed, root=root)
    what = _what(found)
    folder = Path(run) / _FOLDER / repository
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    save = functools.partial(found.adapters.save, members=wishes.members, format=wishes.form)
    return prepare(found.adapters, what, repository, folder, save, wishes, training_facts(found))


def training_facts(found: Predictor) -> TrainingFacts:
    """The facts of what predicts a task of a run: its data, scores over the seeds, and how it was trained.

    Raises:
        RecipeError: If a file of the run is damaged.
    """
    unit, task, recipe = found.unit, found.task, found.recipe
    result = read_result(unit, found.run)
    assert result is not None  # of units that are done one is chosen
    results = gather(found.run).results
    which = (task, unit.kind, unit.method)
    rows = [row for name in ("targets", "sources") for row in results[name]]
    row = next((r for r in rows if (r["task"], r["kind"], r.get("method", "")) == which), None)
    score = _of_one(result, task) if row is None else _score(row, row["mean"], row["sd"], row["seeds"])
    budget = recipe.budget(unit.kind, unit.method)
    record = read_made_with(unit.folder(found.run))
    return TrainingFacts(
        task=task,
        task_type=_TYPES.get(found.spec.kind, "text-classification"),
        data=_data(found.spec, found.root),
        seed=unit.seed,
        scores=(score,),
        settings={
            "what was trained": UNIT_KINDS[unit.kind].title,
            "trained weights": result["trained_weights"],
            "epochs": f"{result['epochs']}, of which number {result['best_epoch']} was the best",
            "batch size": budget.batch_size * budget.accumulation,
            "learning rate": budget.learning_rate,
            **({"revision of the base": recipe.base.revision} if recipe.base.revision else {}),
        },
        versions={} if record is None else record["versions"],
    )


def _what(found: Predictor) -> Composition:
    """What is saved of a unit: the composition, or the head alone.

    Raises:
        RecipeError: If no file of a composition has all of it.
    """
    unit, adapters = found.unit, found.adapters
    for one in (unit, *unit.stacked_on, *unit.members):
        if (one.folder(found.run) / "base").is_dir():
            raise RecipeError(
                f"{unit.id} was trained together with the base, and adapters alone are sent; give another kind, such as "
                "--kind adapter"
            )
    composition, head = adapters.active, adapters.runtime.head
    if composition is None:
        assert isinstance(head, str)
        return head
    if head not in everything_in(adapters, composition):
        raise RecipeError(
            f"{unit.id} has a head of its own beside {composition!r}, which is not saved with it; give another kind, such as "
            "--kind adapter or --kind fusion"
        )
    return composition


def _of_one(result: Mapping[str, Any], task: str) -> Score:
    """The score of one unit in a task, where the run's results have no row for it."""
    own = result.get("tasks", {}).get(task, result)
    return _score(own, own["score"], None, [result["seed"]])


def _score(row: Mapping[str, Any], mean: float, sd: float | None, seeds: list[int]) -> Score:
    return Score(row["metric"], row["scored_on"], mean, sd, tuple(seeds))


def _data(spec: TaskSpec, root: Path) -> str:
    """The name of a task's data: that on the Hub, or the last part of a path here."""
    named = spec.data or spec.train or spec.dev or spec.test or ""
    return Path(named).name if (root / named).exists() or Path(named).is_absolute() else named
