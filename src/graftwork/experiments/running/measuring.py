"""What is measured of a trained unit: scores on every split and in other languages, attention, and what it knows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import Any

from graftwork.api import Adapters
from graftwork.experiments.kinds import UNIT_KINDS, Stage, Unit
from graftwork.experiments.kinds.contract import trained_weights
from graftwork.experiments.running.attention import attention
from graftwork.experiments.running.run_context import RunContext
from graftwork.tasks import Rows, Task
from graftwork.tasks.decisions import Decision
from graftwork.tasks.knowledge import cloze_ranks, commonest, read_knowledge, scores_of_ranks
from graftwork.tasks.reading import draw
from graftwork.training.joint_trainer import JointTrainer
from graftwork.training.recipe_trainer import learnt
from graftwork.training.scores import decided, mean_metric, scored_task, splits_of
from graftwork.training.task_trainer import TaskTrainer

Result = dict[str, Any]
Measured = tuple[Result, dict[str, list[Any]]]  # the result, and the predictions by task
_MOST_ASKED = 500  # triples for the cloze


def measured(unit: Unit, context: RunContext, trainer: TaskTrainer, adapters: Adapters, stage: Stage) -> Measured:
    """The content of ``result.json``, except for the time of training and the size of the file; and the predictions.

    Args:
        unit: The unit, trained.
        context: The context that it was trained in.
        trainer: Its Trainer.
        adapters: The handle of its model.
        stage: What was put on the model.
    """
    task = trainer.task
    began = time.perf_counter()
    scores, predictions = scored_task(task, trainer.measured)
    milliseconds = milliseconds_a_row(began, [task])
    if not trained_weights(adapters):  # no epoch has ended with a score
        trainer.state.log_history.append({"eval_score": scores["scores"]["dev"][task.metric]})
    result: Result = {
        **_which(unit),
        **scores,
        **learnt(trainer.state),
        "trained_weights": trained_weights(adapters),
        "timings": {"milliseconds_a_row": round(milliseconds, 2)},
    }
    if UNIT_KINDS[unit.kind].fuses:
        result["attention"] = attention(unit, trainer, adapters, context.processor)
    if unit.kind == "knowledge":
        result["cloze"] = _cloze(unit, context, trainer, adapters)
    if task.elsewhere:
        result["language"] = task.spec.language
        fitted = Decision(**scores["decision"]) if "decision" in scores else None
        result["elsewhere"] = _elsewhere(unit, context, trainer, adapters, stage, fitted)
    return result, {task.name: predictions}


def measured_joint(unit: Unit, trainer: JointTrainer, adapters: Adapters) -> Measured:
    """The same of a unit of all tasks."""
    began = time.perf_counter()
    tasks, predictions = {}, {}
    for name, encoded in trainer.encoded.items():
        tasks[name], predictions[name] = scored_task(encoded.task, functools.partial(trainer.measured, name))
    milliseconds = milliseconds_a_row(began, (encoded.task for encoded in trainer.encoded.values()))
    training = learnt(trainer.state)
    epochs = [entry for entry in trainer.state.log_history if "eval_score" in entry]
    training["curves"]["tasks"] = {
        name: [[n + 1, entry[f"eval_of_{name}"]] for n, entry in enumerate(epochs)] for name in unit.tasks
    }
    result = {
        **facts_of(unit, tasks),
        **training,
        "trained_weights": trained_weights(adapters),
        "timings": {"milliseconds_a_row": round(milliseconds, 2)},
    }
    return result, predictions


def milliseconds_a_row(began: float, tasks: Iterable[Task]) -> float:
    """The milliseconds since ``began`` for each row that some tasks are scored on."""
    milliseconds = 1000 * (time.perf_counter() - began)
    return milliseconds / sum(len(rows) for task in tasks for rows in splits_of(task).values())


def facts_of(unit: Unit, tasks: Mapping[str, Result]) -> Result:
    """The part that the results of all units of all tasks have: which unit it is, and its scores by task."""
    return {
        **_which(unit),
        "tasks": dict(tasks),
        "metric": mean_metric(one["metric"] for one in tasks.values()),
        "score": statistics.fmean(one["score"] for one in tasks.values()),
        "scored_on": " and ".join(sorted({one["scored_on"] for one in tasks.values()})),
    }


def _which(unit: Unit) -> Result:
    """The part of a result that says which unit it is of."""
    return {
        "unit": unit.id,
        "kind": unit.kind,
        "task": unit.task,
        "seed": unit.seed,
        **({"method": unit.method} if unit.method else {}),
        "members": [member.id for member in unit.members],
        "under": [member.id for member in unit.stacked_on],
    }


def _elsewhere(
    unit: Unit,
    context: RunContext,
    trainer: TaskTrainer,
    adapters: Adapters,
    stage: Stage,
    fitted: Decision | None,
) -> dict[str, dict[str, float]]:
    """The task's metrics on its other rows; the adapter of their language replaces that of the unit's language."""
    found, own = {}, unit.language
    for place, rows in trainer.task.elsewhere.items():
        active: Any = contextlib.nullcontext()
        if own is not None:
            if place not in adapters.names:
                adapters.load(context.adapter_folder(dataclasses.replace(own, task=place)), place, head=False)
            active = adapters.using(unit.stack(stage.top, place), head=stage.head)
        with active:
            scores, predictions = trainer.measured(rows)
        found[place] = scores if fitted is None else decided(trainer.task, fitted, predictions, rows)[0]
    return found


def _cloze(unit: Unit, context: RunContext, trainer: TaskTrainer, adapters: Adapters) -> Result:
    """How well the objects are known, without the adapter and with it: of triples that were trained on, and held out."""
    knowledge = read_knowledge(unit.task, context.recipe.knowledge[unit.task], context.root)
    found: Result = {}
    for part, every in knowledge.clozes().items():
        chosen = draw(Rows([{"cloze": n} for n in range(len(every))]), _MOST_ASKED)
        clozes = [every[row["cloze"]] for row in chosen]
        scores = {}
        for moment, composition in (("before", None), ("after", unit.task)):
            with adapters.using(composition), trainer.autocast():
                ranks = cloze_ranks(adapters.model, clozes, context.processor, batch_size=trainer.args.eval_batch_size)
            scores[moment] = dataclasses.asdict(scores_of_ranks(ranks))
        found[part] = {**scores, "commonest": commonest(clozes, knowledge.told)}
    return found
