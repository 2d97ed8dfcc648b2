"""What is measured of units of all tasks at once."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Mapping
from typing import Any

from graftwork.api import Adapters
from graftwork.experiments.kinds import Unit
from graftwork.experiments.kinds.sizes import trained_weights
from graftwork.experiments.running.run_context import RunContext
from graftwork.training.joint_trainer import JointTrainer
from graftwork.training.recipe_trainer import learnt
from graftwork.training.scores import mean_metric, scored_task, splits_of

Result = dict[str, Any]


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
        "unit": unit.id,
        "kind": unit.kind,
        "task": unit.task,
        "seed": unit.seed,
        **({"method": unit.method} if unit.method else {}),
        "members": [member.id for member in unit.members],
        "under": [],
        "tasks": dict(tasks),
        "metric": mean_metric(one["metric"] for one in tasks.values()),
        "score": statistics.fmean(one["score"] for one in tasks.values()),
        "scored_on": " and ".join(sorted({one["scored_on"] for one in tasks.values()})),
    }
