"""The user's own figures: what `graftwork run` or `graftwork compare` has measured, by method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.report.recommending.candidates import CANDIDATES
from graftwork.report.recommending.evidence import Evidence
from graftwork.report.words import kind_label, named_score, score
from graftwork.training.running.folder import recipe_of
from graftwork.training.running.results import read_results

# Kinds that say where a fusion's gain comes from: compared with it, never chosen.
CONTROLS = ("own", "copies")
# Kinds and methods that a candidate has another name for.
_SAME = {"mt_shared": "together", "skip_bottleneck": "bottleneck"}


@dataclasses.dataclass(frozen=True)
class Figure:
    """One row of a run's results.

    Attributes:
        method: The candidate that it is of, or a key of its own.
        label: What a reader calls it.
        task: The task.
        mean: Of the main metric over the seeds.
        sd: Of the sample over the seeds; ``None`` for one seed.
        seeds: How many.
        metric: The metric.
        scored_on: Which rows.
        weights: How many weights were trained.
        milliseconds: Of inference, a row.
        run: The folder.
        base: The base it was measured on.
    """

    method: str
    label: str
    task: str
    mean: float
    sd: float | None
    seeds: int
    metric: str
    scored_on: str
    weights: int
    milliseconds: float | None
    run: str
    base: str

    @property
    def evidence(self) -> Evidence:
        """It as evidence."""
        spread = "" if self.sd is None else f" ± {score(self.sd, self.metric)}"
        says = f"{self.task}: {named_score(self.mean, self.metric)}{spread}, {self.weights:,d} weights trained"
        return Evidence("measured here", f"run {self.run}, base {self.base}, {_seeds(self.seeds)}", says)

    def clearly_above(self, other: Figure) -> bool:
        """Whether the two means, each less or more one standard deviation, stay apart; one seed has none, and tells nothing."""
        if self.sd is None or other.sd is None:
            return False
        return self.mean - self.sd > other.mean + other.sd


def read_figures(run: str | Path) -> tuple[Figure, ...]:
    """The rows of a run, each with its method.

    Args:
        run: The folder that the run wrote into.

    Raises:
        RecipeError: If it is none, has no results yet, or they are damaged.
    """
    recipe, results = recipe_of(Path(run)), read_results(run)
    found: dict[tuple[str, str], Figure] = {}
    for row in results["targets"]:
        method = _method(row, str(recipe.adapter["method"]))
        number = 2
        while (row["task"], method) in found:  # the same method with other options
            method, number = f"{method.partition(' #')[0]} #{number}", number + 1
        found[row["task"], method] = _figure(row, method, str(run), recipe.base.model)
    return tuple(found.values())


def of_task(figures: Sequence[Figure], task: str) -> dict[str, Figure]:
    """The figures of one task by method."""
    return {figure.method: figure for figure in figures if figure.task == task}


def _figure(row: Mapping[str, Any], method: str, run: str, base: str) -> Figure:
    return Figure(
        method=method,
        label=_label(method, row),
        task=row["task"],
        mean=row["mean"],
        sd=row["sd"],
        seeds=len(row["seeds"]),
        metric=row["metric"],
        scored_on=row["scored_on"],
        weights=row["trained_weights"],
        milliseconds=row["timings"]["milliseconds_a_row"],
        run=run,
        base=base,
    )


def _method(row: Mapping[str, Any], adapter: str) -> str:
    """The candidate of a row: its method, or its kind, where that is one; for an adapter the recipe's method."""
    kind = str(row["kind"])
    found = adapter if kind == "adapter" else str(row.get("method") or kind)
    return _SAME.get(found, found)


def _label(method: str, row: Mapping[str, Any]) -> str:
    name, _, number = method.partition(" #")
    labels = {candidate.key: candidate.label for candidate in CANDIDATES}
    label = labels.get(name) or (kind_label(name, len(row.get("members", ()))) if name == row["kind"] else name)
    return f"{label} #{number}" if number else label


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"
