"""Results made by hand: two targets, a source, two seeds, a fusion over two stacks."""

from __future__ import annotations

from typing import Any

from graftwork.training import Recipe, Unit, plan
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
