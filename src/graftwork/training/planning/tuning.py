"""A base that is tuned over the adapters of what a task knows: what cannot be asked beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graftwork.training.planning.kinds import UNIT_KINDS

if TYPE_CHECKING:
    from graftwork.training.planning.recipe import Recipe


def refuse_untunable(recipe: Recipe, name: str) -> None:
    """Refuse what a task cannot have where its base is tuned over adapters.

    Raises:
        ValueError: Naming the key, and what can be asked in its place.
    """
    task = recipe.tasks[name]
    if task.base == "frozen":
        if task.adapters == "trained":
            raise ValueError(
                f'tasks.{name}.adapters: "trained" is together with the base; say base = "trained" too, or leave it out'
            )
        return
    where = f'tasks.{name}.base: "trained" tunes the base'
    if not task.knowledge:
        raise ValueError(
            f"{where} over the adapters of its knowledge, and it has none; give knowledge = [...]; without any this is "
            f'full fine-tuning: targets = ["{name}"], controls = ["full"]'
        )
    if task.language or task.beside:
        key = "language" if task.language else "beside"
        raise ValueError(
            f"{where}, and the adapter of its {key} is for the base as it was; leave {key} out, or the base frozen"
        )
    single = [kind for kind in recipe.wanted if UNIT_KINDS[kind].of_single] if recipe.targets else []
    if single:
        raise ValueError(
            f"{where}, so that it has no adapter that {single[0]} could use; say fuse = false and controls without "
            f"{', '.join(single)}"
        )
