"""The contents of a run's folder, whether the run is done or not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from graftwork.experiments.comparing.compare import read_comparison
from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.folder import read_error, read_result, recipe_of
from graftwork.experiments.running.results import summarize


@dataclasses.dataclass(frozen=True)
class Gathered:
    """A run: what was planned, and the results so far.

    Attributes:
        run: The folder.
        recipe: The recipe.
        units: All units of the recipe.
        results: The content of ``results.json`` (see `graftwork.experiments.running.results.summarize`).
        comparison: The content of ``comparison.json`` (see `graftwork.experiments.comparing.compare.compared`), if there is one.
    """

    run: Path
    recipe: Recipe
    units: tuple[Unit, ...]
    results: dict[str, Any]
    comparison: dict[str, Any] | None = None


def gather(run: str | Path) -> Gathered:
    """Read a run's folder, also while another process trains in it.

    The units' own results are read, not ``results.json``, which lacks a unit if the run was killed.

    Raises:
        RecipeError: If the folder is not a run's, or a file of it is damaged.
    """
    run = Path(run)
    recipe = recipe_of(run)
    units = plan(recipe)
    done = {unit.id: result for unit in units if (result := read_result(unit, run)) is not None}
    failed = {unit.id: why for unit in units if (why := read_error(unit.folder(run))) and unit.id not in done}
    return Gathered(run, recipe, units, summarize(units, done, recipe, failed), read_comparison(run))
