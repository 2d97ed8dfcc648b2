"""What a sweep optimises: one kind of training, or one method, by its mean dev score on the recipe's targets."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from graftwork.errors import RecipeError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.planning.recipe_tables import Control
from graftwork.experiments.sweeping.ranges import Range
from graftwork.options import nearest

KINDS: tuple[str, ...] = get_args(Control)
_OF_ADAPTERS = ("adapter", "tuned", "mt_shared", "new_task")  # what trains the adapter of a task


@dataclasses.dataclass(frozen=True)
class Aim:
    """What a sweep optimises.

    Attributes:
        kind: A kind of training, or the name of a table ``[methods.NAME]``.
        targets: The tasks that it is scored on.
        recipe: The recipe that trains only that, and what it depends on.
    """

    kind: str
    targets: tuple[str, ...]
    recipe: Recipe

    @classmethod
    def of(cls, recipe: Recipe, ranges: Sequence[Range], kind: str | None = None) -> Aim:
        """The aim of a sweep over some keys of a recipe.

        Args:
            recipe: The recipe.
            ranges: The keys.
            kind: What is optimised; by default the method that a key is of, else the fusions of the recipe, else its adapters.

        Raises:
            RecipeError: If there is no such kind, or the recipe cannot train it.
        """
        swept = [one.key.split(".")[1] for one in ranges if one.key.startswith("methods.")]
        kind = kind or next(iter(swept), "fusion" if recipe.fuse and recipe.targets else "adapter")
        if kind not in (*recipe.methods, *KINDS):
            raise RecipeError(f"{kind!r} is nothing to optimise; {nearest(kind, [*recipe.methods, *KINDS])}")
        targets = recipe.targets or tuple(recipe.tasks)
        tables = recipe.model_dump(mode="json", exclude_unset=True)
        method = kind in recipe.methods
        tables |= {"targets": [*targets], "fuse": kind == "fusion", "controls": [] if method else [kind]}
        tables["methods"] = {kind: recipe.methods[kind]} if method else {}
        return cls(kind, targets, Recipe.make(tables, f"the recipe for a sweep of {kind}"))

    def counts(self, unit: Unit) -> bool:
        """Whether the score of a unit counts."""
        return self._counts(unit.kind, unit.method, {unit.task, *unit.tasks})

    def counted(self, result: Mapping[str, Any]) -> bool:
        """Whether the score of a unit counts, by its result."""
        return self._counts(result["kind"], result.get("method", ""), {result["task"], *result.get("tasks", ())})

    def _counts(self, kind: str, method: str, tasks: set[str]) -> bool:
        of_method = self.kind in self.recipe.methods
        kinds = ("method", *_OF_ADAPTERS) if of_method else _OF_ADAPTERS if self.kind == "adapter" else (self.kind,)
        return kind in kinds and method == (self.kind if of_method else "") and not tasks.isdisjoint(self.targets)

    def score(self, result: Mapping[str, Any]) -> float:
        """The score of a unit on the dev rows, by each task's main metric; test rows are not looked at."""
        parts = [one for task, one in result.get("tasks", {}).items() if task in self.targets] or [result]
        return statistics.fmean(one["scores"]["dev"][one["metric"]] for one in parts)
