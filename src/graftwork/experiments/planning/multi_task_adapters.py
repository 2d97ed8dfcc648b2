"""Adapters that serve several tasks in a recipe: which tasks learn together, and how often each is drawn.

A configuration with members (`graftwork.methods.AdapterConfig.members`) is one adapter for all tasks of a recipe. Where its
table names ``tasks``, those learn together, and every other task joins later by what is a member's alone.
"""

from __future__ import annotations

from graftwork.experiments.planning.recipe_tables import RecipeTables
from graftwork.training.sampling import TaskMixing


def served(recipe: RecipeTables, method: str = "") -> tuple[str, ...]:
    """The tasks that learn together in one adapter of ``[methods.NAME]``, or of ``[adapter]``; empty where each has its own."""
    members = recipe.adapter_config(method=method).members
    if not members or len(recipe.tasks) < 2:
        return ()
    return members if _says_tasks(recipe, method) else tuple(recipe.tasks)


def mixing_of(recipe: RecipeTables, method: str = "") -> TaskMixing:
    """How often each task is drawn: as ``[mixing]`` says, else for an adapter of several tasks by its paper's temperature."""
    table = recipe.mixing
    if "kind" in table.model_fields_set or not served(recipe, method):
        return table.mixing
    return TaskMixing(kind="temperature", temperature=table.temperature)


def _says_tasks(recipe: RecipeTables, method: str) -> bool:
    return "tasks" in (recipe.methods[method] if method else recipe.adapter)
