"""Results made by hand: two targets, a source, two seeds, a fusion over two stacks."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.experiments import Recipe, Unit, plan
from graftwork.experiments.kinds import UNIT_KINDS
from graftwork.experiments.running.forgetting import Forgetting
from graftwork.experiments.running.measuring import facts_of
from graftwork.experiments.running.results import summarize

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
        "labels": ["no", "yes"],
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
# R of `graftwork.experiments.running.forgetting`, of the first seed
FORGETTING = ((0.70,), (0.72, 0.78), (0.60, 0.70, 0.79))
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
    """The same of a unit of all tasks, as `graftwork.experiments.running.joint` and `sequence` write it."""
    more = 0.02 * unit.seed
    sequence = UNIT_KINDS[unit.kind].trained_on == "sequence"
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


def difference(value: float, half: float) -> dict[str, Any]:
    """A difference with an interval as far to both sides."""
    low, high = value - half, value + half
    return {
        "value": value,
        "low": low,
        "high": high,
        "p": 0.0004 if low > 0 else 0.31,
        "draws": 1000,
        "clear": low * high > 0,
    }


def comparison_of(costs: bool = True, seeds: int = 2) -> dict[str, Any]:
    """What comparison.json says of five lines on two targets, and of their mean."""
    lines = {  # weights, bytes, rte, mrpc
        "head": (770, 4_200, 0.55, 0.70),
        "full": (22_700_000, 90_800_000, 0.62, 0.80),
        "method-houlsby": (620_000, 2_500_000, 0.63, 0.79),
        "method-a <b>": (300_000, 1_200_000, 0.66, 0.78),
        "mt_shared": (602_000, 2_410_000, 0.60, 0.81),
    }

    def rows(place: int, metric: str) -> list[dict[str, Any]]:
        full, found = lines["full"][place], []
        for line, (weights, size, *scores) in lines.items():
            kind, _, method = line.partition("-")
            mean = scores[place - 2] if place < 4 else sum(scores) / 2
            best = "method-a <b>" if line != "method-a <b>" else "method-houlsby"
            found.append(
                {
                    "line": line,
                    "kind": kind,
                    **({"method": method} if method else {}),
                    "metric": metric,
                    "members": [],
                    "mean": mean,
                    "sd": 0.01 if seeds > 1 else None,
                    "seeds": list(range(seeds)),
                    "scores": [mean] * seeds,
                    "trained_weights": weights,
                    "weights_a_task": weights // (2 if kind == "mt_shared" else 1),
                    "share": weights / lines["full"][0],
                    "file_bytes": size,
                    "against_full": None if line == "full" else difference(mean - full, 0.03),
                    "best_other": best,
                    "against_best": difference(-0.01, 0.03),
                }
            )
        return found

    targets = [
        {
            "task": task,
            "metric": metric,
            "scored_on": "test",
            "rows_scored": 277,
            "draws": 1000,
            "rows": rows(n, metric),
        }
        for n, (task, metric) in enumerate((("rte", "accuracy"), ("mrpc", "f1")), start=2)
    ]
    mean = rows(2, "accuracy")
    for row, one, other in zip(mean, *(target["rows"] for target in targets), strict=True):
        row["mean"] = (one["mean"] + other["mean"]) / 2
    measured = {
        line: {
            "train_seconds": 0.1 + 0.1 * n,
            "inference_seconds": 0.05,
            "train_ratio": 0.5 + 0.1 * n,
            "inference_ratio": 1 + 0.01 * n,
            "train_bytes": 100_000_000 * (n + 1),
            "inference_bytes": 90_000_000,
            "train_memory_ratio": 0.4 + 0.1 * n,
            "inference_memory_ratio": 1.0,
        }
        for n, line in enumerate(lines)
    }
    batch = {"task": "rte", "rows": 16, "length": 64, "bf16": False, "gradient_checkpointing": False}
    return {
        "format": 1,
        "reference": "full",
        "seeds": list(range(seeds)),
        "targets": targets,
        "mean": mean,
        "costs": {"batch": {**batch, "device": "CPU, 2 threads", "rounds": 7}, "lines": measured} if costs else None,
    }


def evidence_of(value: float, half: float, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What evidence.json says of rte, where the fusion is better than the single adapter by a value, give or take a half."""
    lines = [row["kind"] for row in rows if row["task"] == "rte"]
    against = {
        line: {"line": line, "low": 0.6, "high": 0.8, "against": None if line == "fusion" else difference(value, half)}
        for line in lines
    }
    change = {"row": 6, "text": "a <b>long</b> text", "gold": "yes", "before": "no", "after": "yes", "better": True}
    return {
        "format": 1,
        "units": {},
        "targets": [
            {
                "task": "rte",
                "metric": "accuracy",
                "scored_on": "dev",
                "rows_scored": 277,
                "folds": 0,
                "draws": 10_000,
                "subject": "fusion",
                "control": "adapter",
                "seeds": [0, 1],
                "by_seed": [value + 0.01, value - 0.01],
                "lines": [*against.values()],
                "labels": ["no", "yes"],
                "confusion": {"fusion": [[30, 10], [20, 40]], "adapter": [[20, 20], [0, 60]]},
                "gained": 1,
                "lost": 0,
                "changed": [change],
            }
        ],
    }
