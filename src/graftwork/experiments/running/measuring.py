"""What is measured of a unit when it is trained: scores on every split, in other languages, of what it knows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

from graftwork.api import Adapters
from graftwork.experiments.kinds import UNIT_KINDS, Stage, Unit, fusion_name
from graftwork.experiments.kinds.sizes import trained_weights
from graftwork.experiments.running.attention import mean_attention
from graftwork.experiments.running.run_context import RunContext
from graftwork.tasks import Rows
from graftwork.tasks.knowledge import cloze_ranks, commonest, read_knowledge, scores_of_ranks
from graftwork.tasks.reading import draw
from graftwork.training.joint_trainer import JointTrainer
from graftwork.training.recipe_trainer import learnt
from graftwork.training.scores import mean_metric, scored_task, splits_of
from graftwork.training.task_trainer import TaskTrainer

Result = dict[str, Any]
_MOST_ASKED = 500


def measured(
    unit: Unit, context: RunContext, trainer: TaskTrainer, adapters: Adapters, stage: Stage
) -> tuple[Result, dict[str, list[Any]]]:
    """Everything that ``result.json`` says, but for the time of training and the size of the file; and the predictions.

    Args:
        unit: The unit, trained.
        context: Where it was trained.
        trainer: What trained it.
        adapters: The handle of its model.
        stage: What was put on the model.
    """
    task = context.tasks[unit.task]
    began = time.perf_counter()
    scores, predictions = scored_task(task, trainer.measured)
    seconds = (time.perf_counter() - began) / sum(map(len, splits_of(task).values()))
    result: Result = {
        **_which(unit),
        **scores,
        **learnt(trainer.state),
        "trained_weights": trained_weights(adapters),
        "timings": {"milliseconds_a_row": round(1000 * seconds, 2)},
    }
    if UNIT_KINDS[unit.kind].fuses:
        result["attention"] = _attention(unit, context, trainer, adapters)
    if unit.kind == "knowledge":
        result["cloze"] = _cloze(unit, context, trainer, adapters)
    if task.elsewhere:
        result["language"] = task.spec.language
        result["elsewhere"] = _elsewhere(unit, context, trainer, adapters, stage)
    return result, {task.name: predictions}


def measured_joint(
    unit: Unit, context: RunContext, trainer: JointTrainer, adapters: Adapters
) -> tuple[Result, dict[str, list[Any]]]:
    """Everything that ``result.json`` says, but for the time of training and the size of the file; and the predictions."""
    began = time.perf_counter()
    tasks, predictions = {}, {}
    for name in unit.tasks:
        tasks[name], predictions[name] = scored_task(context.tasks[name], functools.partial(trainer.measured, name))
    seconds = time.perf_counter() - began
    rows = sum(len(split) for name in unit.tasks for split in splits_of(context.tasks[name]).values())
    said = learnt(trainer.state)
    epochs = [entry for entry in trainer.state.log_history if "eval_score" in entry]
    said["curves"]["tasks"] = {
        name: [[n + 1, entry[f"eval_of_{name}"]] for n, entry in enumerate(epochs)] for name in unit.tasks
    }
    result = {
        **facts_of(unit, tasks),
        **said,
        "trained_weights": trained_weights(adapters),
        "timings": {"milliseconds_a_row": round(1000 * seconds / rows, 2)},
    }
    return result, predictions


def facts_of(unit: Unit, tasks: Mapping[str, Result]) -> Result:
    """What the result of every unit of all tasks says: which it is, and its scores by task."""
    return {
        **_which(unit),
        "tasks": dict(tasks),
        "metric": mean_metric(one["metric"] for one in tasks.values()),
        "score": statistics.fmean(one["score"] for one in tasks.values()),
        "scored_on": " and ".join(sorted({one["scored_on"] for one in tasks.values()})),
    }


def _which(unit: Unit) -> Result:
    """Which unit a result is of."""
    return {
        "unit": unit.id,
        "kind": unit.kind,
        "task": unit.task,
        "seed": unit.seed,
        **({"method": unit.method} if unit.method else {}),
        "members": [member.id for member in unit.members],
        "under": [member.id for member in unit.stacked_on],
    }


def _attention(unit: Unit, context: RunContext, trainer: TaskTrainer, adapters: Adapters) -> Result:
    task = context.tasks[unit.task]
    features, size = trainer.features(task.dev), trainer.args.eval_batch_size
    return mean_attention(adapters, fusion_name(unit), task.kind, features, context.processor, size, trainer.autocast)


def _elsewhere(
    unit: Unit, context: RunContext, trainer: TaskTrainer, adapters: Adapters, stage: Stage
) -> dict[str, dict[str, float]]:
    """The task's metrics on its other rows; a unit over a language's adapter gets that of the rows in its place."""
    found = {}
    for place, rows in context.tasks[unit.task].elsewhere.items():
        with _speaking(place, unit, context, adapters, stage):
            found[place] = trainer.measure(rows)[0]
    return found


@contextlib.contextmanager
def _speaking(language: str, unit: Unit, context: RunContext, adapters: Adapters, stage: Stage) -> Iterator[None]:
    own = next((member for member in unit.stacked_on if member.kind == "language"), None)
    if own is None:
        yield
        return
    if language not in adapters.names:
        other = dataclasses.replace(own, task=language)
        adapters.load(context.adapter_folder(other), language, head=False)
    with adapters.using(unit.stack(stage.top, language), head=stage.head):
        yield


def _cloze(unit: Unit, context: RunContext, trainer: TaskTrainer, adapters: Adapters) -> Result:
    """How well the objects are known, without the adapter and with it: of what was told, and of what was held out."""
    knowledge = read_knowledge(unit.task, context.recipe.knowledge[unit.task], context.root)
    found: Result = {}
    for part, every in knowledge.clozes().items():
        chosen = draw(Rows([{"cloze": n} for n in range(len(every))]), _MOST_ASKED)
        asked = [every[row["cloze"]] for row in chosen]
        scores = {}
        for moment, composition in (("before", None), ("after", unit.task)):
            with adapters.using(composition), trainer.autocast():
                ranks = cloze_ranks(adapters.model, asked, context.processor, batch_size=trainer.args.eval_batch_size)
            scores[moment] = dataclasses.asdict(scores_of_ranks(ranks))
        found[part] = {**scores, "commonest": commonest(asked, knowledge.told)}
    return found
