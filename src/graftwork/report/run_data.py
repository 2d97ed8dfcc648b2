"""The contents of a run's folder, whether the run is done or not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from graftwork.experiments.comparing.compare import line_of, read_comparison
from graftwork.experiments.comparing.evidence import read_evidence, settled_evidence
from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.folder import read_error, read_result, recipe_of
from graftwork.experiments.running.results import summarize
from graftwork.report.comparison import Scores
from graftwork.report.formatting import line_label, metric_label


@dataclasses.dataclass(frozen=True)
class Gathered:
    """A run: what was planned, and the results so far.

    Attributes:
        run: The folder.
        recipe: The recipe.
        units: All units of the recipe.
        results: The content of ``results.json`` (see `graftwork.experiments.running.results.summarize`).
        comparison: The content of ``comparison.json`` (see `graftwork.experiments.comparing.compare.compared`), if there is one.
        evidence: The content of ``evidence.json`` (see `graftwork.experiments.comparing.evidence`), if there is one.
        unknown: Why there is none.
    """

    run: Path
    recipe: Recipe
    units: tuple[Unit, ...]
    results: dict[str, Any]
    comparison: dict[str, Any] | None = None
    evidence: dict[str, Any] | None = None
    unknown: str = ""

    @property
    def known(self) -> list[dict[str, Any]]:
        """What the predictions say of each target; none where there is no evidence."""
        return [] if self.evidence is None else list(self.evidence["targets"])

    @property
    def scored(self) -> list[Scores]:
        """The scores of each target that has some."""
        tasks = {(unit.kind, unit.method): len(unit.tasks) or 1 for unit in self.units}
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in self.results["targets"]:
            shared = tasks.get((row["kind"], row.get("method", "")), 1)
            rows.setdefault(row["task"], []).append({**row, "weights_a_task": round(row["trained_weights"] / shared)})
        return [
            Scores(
                task,
                f"{task}: {of_task[0]['metric']}",
                of_task[0]["metric"],
                metric_label(of_task[0]["metric"]),
                of_task,
            )
            for task, of_task in rows.items()
        ]

    def names(self, target: str) -> dict[str, str]:
        """The names of a target's lines."""
        return {line_of(row): line_label(row) for row in self.results["targets"] if row["task"] == target}


def gather(run: str | Path, *, evidence: bool = False) -> Gathered:
    """Read a run's folder, also while another process trains in it.

    The units' own results are read, not ``results.json``, which lacks a unit if the run was killed.

    Args:
        run: The folder.
        evidence: Whether ``evidence.json`` is made of predictions and data where it is missing; else it is only read.

    Raises:
        RecipeError: If the folder is not a run's, or a file of it is damaged.
    """
    run = Path(run)
    recipe = recipe_of(run)
    units = plan(recipe)
    done = {unit.id: result for unit in units if (result := read_result(unit, run)) is not None}
    failed = {unit.id: why for unit in units if (why := read_error(unit.folder(run))) and unit.id not in done}
    results = summarize(units, done, recipe, failed)
    known, why = settled_evidence(run, recipe, results) if evidence else (read_evidence(run, results), "")
    return Gathered(run, recipe, units, results, read_comparison(run), known, why)


def without_texts(found: Gathered) -> Gathered:
    """The same without the texts of rows: the tokens that a fusion looks at, and those of rows whose answer changed."""
    units = [
        {**unit, "attention": {**unit["attention"], "examples": []}} if unit.get("attention") else unit
        for unit in found.results["units"]
    ]
    known = [{**one, "changed": [{**row, "text": ""} for row in one.get("changed", [])]} for one in found.known]
    evidence = None if found.evidence is None else {**found.evidence, "targets": known}
    return dataclasses.replace(found, results={**found.results, "units": units}, evidence=evidence)
