"""Units of all tasks at once: one model for all of them, by a shared adapter, an adapter a task, or the base itself.

mt_shared   one adapter and a head a task on the frozen base
mt_joint    an adapter and a head a task, trained together with the base (Stickland & Murray 2019, arXiv:1902.02671;
            MT-A of Pfeiffer et al. 2020, arXiv:2005.00247); kept with the difference of the base
multitask   the base and a head a task

An adapter that serves several tasks (a hypernetwork) is one in both, with a member a task, ``"shared:mnli"``.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import set_seed

from graftwork.api import Adapters
from graftwork.training.planning.kinds import UNIT_KINDS
from graftwork.training.planning.plan import Unit
from graftwork.training.planning.recipe import SHARED
from graftwork.training.running.kept import size_of, trained_bytes, trained_weights
from graftwork.training.running.stages import joint_way, mt_folder
from graftwork.training.running.workshop import Workshop
from graftwork.training.trainers.joint_trainer import JointTrainer, Way
from graftwork.training.trainers.recipe_trainer import learnt
from graftwork.training.trainers.scores import mean_metric, scored_task, splits_of

Result = dict[str, Any]


def set_up_joint(unit: Unit, shop: Workshop) -> tuple[Adapters, dict[str, Way]]:
    """A fresh base with what a unit trains on it, and how each task goes through it."""
    set_seed(unit.seed)
    grafts, tasks = shop.fresh(), unit.tasks
    config = shop.recipe.adapter_config(unit.kind, unit.method)
    ways = {task: Way(*joint_way(unit, task, shop.recipe)) for task in tasks}
    if unit.kind == "mt_shared" or (config.members and unit.kind == "mt_joint"):
        grafts.add(SHARED, config.with_members(tasks) if config.members else config)
    for task, way in ways.items():
        if way.composition == task:
            grafts.add(task, config)
        grafts.add_head(way.head, shop.tasks[task].head())
    learners = [*grafts.names, *(head for head in grafts.lone_heads if head not in grafts.names)]
    base = "trained" if UNIT_KINDS[unit.kind].trains_base else "frozen"
    first = ways[tasks[0]]
    grafts.train_only(learners, active=first.composition, head=first.head, base=base)
    return grafts, ways


def measured_joint(
    unit: Unit, shop: Workshop, trainer: JointTrainer, grafts: Adapters
) -> tuple[Result, dict[str, list[Any]]]:
    """Everything that ``result.json`` says, but for the time of training and the size of the file; and the predictions."""
    began = time.perf_counter()
    tasks, predictions = {}, {}
    for name in unit.tasks:
        tasks[name], predictions[name] = scored_task(shop.tasks[name], functools.partial(trainer.measured, name))
    seconds = time.perf_counter() - began
    rows = sum(len(split) for name in unit.tasks for split in splits_of(shop.tasks[name]).values())
    said = learnt(trainer.state)
    epochs = [entry for entry in trainer.state.log_history if "eval_score" in entry]
    said["curves"]["tasks"] = {
        name: [[n + 1, entry[f"eval_of_{name}"]] for n, entry in enumerate(epochs)] for name in unit.tasks
    }
    result = {
        **facts_of(unit, tasks),
        **said,
        "trained_weights": trained_weights(grafts),
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


def keep_joint(unit: Unit, grafts: Adapters, run: Path) -> int:
    """Save what was trained; the bytes on disk, for a whole base those that it would have."""
    if unit.kind == "multitask":
        return trained_bytes(grafts)
    size, folder = 0, unit.folder(run)
    for name in (*grafts.names, *grafts.lone_heads):
        if name != SHARED:
            at = mt_folder(unit, name, run) if name in grafts.names else folder / "heads" / name
            size += size_of(grafts.save(name, at))
    if SHARED in grafts.names:
        size += size_of(grafts.save(SHARED, folder / "adapter"))
    if UNIT_KINDS[unit.kind].trains_base:
        size += size_of(grafts.save_base(folder / "base"))
    return size
