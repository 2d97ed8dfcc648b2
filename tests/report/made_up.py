"""Results made by hand: two targets, a source, two seeds, a fusion over two stacks."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.training import Recipe, Unit, plan
from graftwork.training.forgetting import Forgetting
from graftwork.training.joint import facts_of
from graftwork.training.kinds import UNIT_KINDS
from graftwork.training.results import summarize

RECIPE = Recipe.make(
    {
        "base": {"model": "base"},
        "tasks": {"rte": {"data": "rte"}, "mrpc": {"data": "mrpc", "metrics": "f1"}, "wmt": {"data": "wmt"}},
        "targets": ["rte", "mrpc"],
        "seeds": [0, 1],
        "copies": 2,
    }
)
UNITS = plan(RECIPE)
METRICS = {"rte": "accuracy", "mrpc": "f1", "wmt": "bleu"}
# What a fusion looks at, by site: out of order, as a file may have them, and of more than nine layers.
SITES = ("decoder.block.10.feed_forward", "decoder.block.2.feed_forward", "encoder.block.0.feed_forward")


def unit_result(unit: Unit, score: float, scored_on: str = "dev", seconds: float = 60.0) -> dict[str, Any]:
    """What a unit's result.json says."""
    result: dict[str, Any] = {
        "unit": unit.id,
        "kind": unit.kind,
        "task": unit.task,
        "seed": unit.seed,
        "members": [member.id for member in unit.members],
        "metric": METRICS[unit.task],
        "score": score,
        "scored_on": scored_on,
        "scores": {scored_on: {METRICS[unit.task]: score}},
        "epochs": 2,
        "best_epoch": 2,
        "steps": 40,
        "trained_weights": 1234567,
        "file_bytes": {"full": 438_000_000, "head": 4_200}.get(unit.kind, 3_600_000),
        "curves": {"loss": [[10, 0.7], [20, 0.5]], "score": [[1, score / 2], [2, score]]},
        "timings": {"train_seconds": seconds, "milliseconds_a_row": 12.34},
    }
    if unit.kind in ("fusion", "own", "copies"):
        names = [member.task for member in unit.members]
        result["attention"] = {"adapters": names, "sites": {site: weights(unit, site) for site in SITES}}
    return result


def weights(unit: Unit, site: str) -> list[float]:
    """An attention that tells sites and seeds apart: one in all, the rest evenly over all but the first."""
    first = (1 + SITES.index(site)) / 10 + 0.2 * unit.seed
    rest = len(unit.members) - 1
    return [first, *[(1 - first) / rest] * rest] if rest else [1.0]


def results_of(units: list[Unit] | tuple[Unit, ...], scored_on: str = "dev") -> dict[str, Any]:
    """The results of a run in which those units are done; the second seed is two points better."""
    scores = {"rte": 0.7, "mrpc": 0.8, "wmt": 27.3}
    done = {unit.id: unit_result(unit, scores[unit.task] + 0.02 * unit.seed, scored_on) for unit in units}
    return summarize(UNITS, done, RECIPE)


# A run of many tasks: everything that is trained on all of them, two seeds, scores that are easy to reckon with.
MANY = Recipe.make(
    {
        "base": {"model": "base"},
        "tasks": {"rte": {"data": "rte"}, "mrpc": {"data": "mrpc"}, "cola": {"data": "cola"}},
        "targets": ["rte", "mrpc", "cola"],
        "seeds": [0, 1],
        "fuse": False,
        "controls": ["full", "adapter", "sequential", "sequential_adapters", "multitask", "mt_shared", "fusion_mt"],
    }
)
MANY_METRICS = {"rte": "accuracy", "mrpc": "f1", "cola": "accuracy"}
ALONE = {"rte": 0.70, "mrpc": 0.80, "cola": 0.75}  # of a training on the task alone
TOGETHER = {"rte": 0.74, "mrpc": 0.79, "cola": 0.75}  # of one on all at once
FORGETTING = ((0.70,), (0.72, 0.78), (0.60, 0.70, 0.79))  # R of `graftwork.training.forgetting`, of the first seed
KEPT = ((0.70,), (0.70, 0.80), (0.70, 0.80, 0.75))  # the same where nothing is forgotten


def many_results(
    units: Sequence[Unit] | None = None, metrics: Mapping[str, str] = MANY_METRICS, scored_on: str = "dev"
) -> dict[str, Any]:
    """The results of `MANY` in which some units are done, by default all; the second seed is two points better."""
    units = plan(MANY) if units is None else units
    return summarize(plan(MANY), {unit.id: many_result(unit, metrics, scored_on) for unit in units}, MANY)


def many_result(unit: Unit, metrics: Mapping[str, str] = MANY_METRICS, scored_on: str = "dev") -> dict[str, Any]:
    """What a unit's result.json says in a run of many tasks."""
    if UNIT_KINDS[unit.kind].of_all:
        return of_all_result(unit, metrics, scored_on)
    result = {**unit_result(dataclasses.replace(unit, task="rte"), ALONE[unit.task] + 0.02 * unit.seed, scored_on)}
    if UNIT_KINDS[unit.kind].fuses:
        tasks = list(MANY.tasks)
        result["attention"] = {"adapters": tasks, "sites": {site: [0.5, 0.25, 0.25] for site in SITES}}
    return {**result, "unit": unit.id, "task": unit.task, "metric": metrics[unit.task]}


def of_all_result(unit: Unit, metrics: Mapping[str, str], scored_on: str = "dev") -> dict[str, Any]:
    """The same of a unit of all tasks, as `graftwork.training.joint` and `sequence` write it."""
    more = 0.02 * unit.seed
    sequence = UNIT_KINDS[unit.kind].over == "sequence"
    matrix = [[value + more for value in row] for row in (FORGETTING if unit.kind == "sequential" else KEPT)]
    scores = dict(zip(unit.tasks, matrix[-1], strict=True)) if sequence else {t: TOGETHER[t] + more for t in unit.tasks}
    tasks = {
        task: {"metric": metrics[task], "score": score, "scored_on": scored_on, "scores": {}, "labels": []}
        for task, score in scores.items()
    }
    whole = unit_result(dataclasses.replace(unit, task="rte"), statistics.fmean(scores.values()), scored_on)
    result = {**whole, **facts_of(unit, tasks)}
    if sequence:
        result["sequence"] = Forgetting(unit.tasks, tuple(map(tuple, matrix))).to_dict()
    else:
        result["curves"] |= {"tasks": {task: [[1, score / 2], [2, score]] for task, score in scores.items()}}
    return result
