"""Adapters that serve several tasks in a recipe: which tasks learn together, which join later, and what cannot be asked of them.

A configuration with members (`graftwork.methods.AdapterConfig.members`) is one adapter for all tasks of a recipe. Where its
table names ``tasks``, those learn together, and every other task joins later by what is a member's alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graftwork.tasks.needs import hint
from graftwork.training.planning.kinds import UNIT_KINDS
from graftwork.training.planning.sampling import TaskMixing

if TYPE_CHECKING:
    from graftwork.training.planning.recipe import Recipe


def served(recipe: Recipe, method: str = "") -> tuple[str, ...]:
    """The tasks that learn together in one adapter of ``[methods.NAME]``, or of ``[adapter]``; empty where each has its own."""
    members = recipe.adapter_config(method=method).members
    if not members or len(recipe.tasks) < 2:
        return ()
    return members if _says_tasks(recipe, method) else tuple(recipe.tasks)


def mixing_of(recipe: Recipe, method: str = "") -> TaskMixing:
    """How often each task is drawn: as ``[mixing]`` says, else for an adapter of several tasks by its paper's temperature."""
    table = recipe.mixing
    if "kind" in table.model_fields_set or not served(recipe, method):
        return table.mixing
    return TaskMixing(kind="temperature", temperature=table.temperature)


def refuse_unservable(recipe: Recipe) -> None:
    """Refuse what adapters that serve several tasks cannot do.

    Raises:
        ValueError: Naming the table, and what can be asked in its place.
    """
    for table in ("language_adapter", "knowledge_adapter"):
        if len(recipe.adapter_config(table.removesuffix("_adapter")).members) > 1:
            raise ValueError(f"{table}: an adapter of several tasks learns one text here; leave its tasks out")
    shared = {f"methods.{name}": name for name in recipe.methods if served(recipe, name)}
    if served(recipe):
        shared["adapter"] = ""
        _refuse_single(recipe)
    for where, method in shared.items():
        _refuse_tasks(recipe, where, method)


def _refuse_single(recipe: Recipe) -> None:
    """Refuse, where ``[adapter]`` is one adapter for all tasks, what needs an adapter of a single task."""
    name = recipe.adapter["method"]
    single = [kind for kind in recipe.wanted if UNIT_KINDS[kind].of_single] if recipe.targets else []
    if single:
        raise ValueError(
            f"adapter: {name} is one adapter for all tasks, and {single[0]} needs one of a single task; say fuse = false and "
            'controls = ["mt_shared"], or put it into a table [methods.NAME] and leave [adapter] to another method'
        )
    if recipe.together > 1:
        raise ValueError(
            f"together is {recipe.together} and the adapter is {name}, which all tasks train at once already; leave together out"
        )


def _refuse_tasks(recipe: Recipe, where: str, method: str) -> None:
    tasks = served(recipe, method)
    strange = next((task for task in tasks if task not in recipe.tasks), None)
    if strange is not None:
        near = hint(strange, [*recipe.tasks])
        raise ValueError(
            f"{where}.tasks: {strange!r} is no task of this recipe; {f'{near} ' if near else ''}the tasks are "
            f"{', '.join(recipe.tasks)}. Leave tasks out and all of them learn together"
        )
    if len(tasks) < 2:
        raise ValueError(
            f"{where}.tasks names {tasks[0]} alone; name two or more that learn together (every other task then joins by what "
            "is its own), or leave tasks out"
        )
    over = next((name for name, task in recipe.tasks.items() if task.language or task.knowledge or task.beside), None)
    if over is not None:
        raise ValueError(
            f"{where}: one adapter serves all tasks, and tasks.{over} stands over or beside another one; leave one of the two out"
        )


def _says_tasks(recipe: Recipe, method: str) -> bool:
    return "tasks" in (recipe.methods[method] if method else recipe.adapter)
