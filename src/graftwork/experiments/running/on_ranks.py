"""A run by ranks that train each unit together: the first is a worker like any other, the others follow it."""

from __future__ import annotations

import gc
import os
import traceback

from graftwork.errors import LostRankError, RecipeError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.folder import ERROR, write_error
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.measuring import Result
from graftwork.experiments.running.run_context import RunContext
from graftwork.experiments.running.unit import run_unit
from graftwork.training.ranks import ranks_started


def refuse_ranks(what: str) -> None:
    """Refuse to do something in processes that a launcher has started to train together.

    Raises:
        RecipeError: If there are several.
    """
    if ranks_started() > 1:
        raise RecipeError(
            f"{what} is for one process, and torchrun or accelerate launch has started {ranks_started()}; call it without them"
        )


def check_ranks(recipe: Recipe) -> None:
    """Refuse a recipe that the ranks which a launcher has started cannot train together.

    Raises:
        RecipeError: Naming the key.
    """
    size = ranks_started()
    if size == 1:
        return
    for name in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() in ("1", "true"):
            raise RecipeError(
                f"accelerate is configured for {name}, and a recipe is trained with the whole base in each process; say "
                "distributed_type: MULTI_GPU in its configuration, or train in a script of your own (docs/scale.md)"
            )
    if recipe.together > 1:
        raise RecipeError(
            f"together = {recipe.together} trains several adapters in one pass of one process, and there are {size} processes "
            "that train each adapter together; leave it out, or start `graftwork work` once for each GPU instead (docs/scale.md)"
        )


def lead(unit: Unit, context: RunContext, watcher: Watcher) -> Result:
    """Train a unit on all ranks: what the first one does in place of `run_unit`.

    Raises:
        TrainingError: As `run_unit`; also if another rank had an error.
        LostRankError: If the ranks have to end.
    """
    ranks = context.ranks
    ranks.tell("train", (unit, dict(context.held)))
    try:
        result = run_unit(unit, context, watcher)
    except Exception as error:
        if not ranks.lost:
            ranks.tell("ended", f"{type(error).__name__}: {error}")
        raise
    ranks.tell("ended")
    return result


def follow(context: RunContext) -> str | None:
    """Train what the first rank trains, until that ends; returns why it ended, if not because all is done.

    Raises:
        LostRankError: If the ranks have to end.
    """
    while True:
        what, told = context.ranks.hear()
        if what == "end":
            return told  # type: ignore[no-any-return]  # as the first rank has sent it
        if what == "train":
            unit, context.held = told
            try:
                run_unit(unit, context, Watcher())
            except LostRankError as error:
                note_error(unit, context, error)
                raise
            except Exception:  # the first rank knows it, and writes it down
                gc.collect()


def note_error(unit: Unit, context: RunContext, error: Exception) -> None:
    """Write down why a unit failed, if no other rank has done it."""
    folder = context.folder(unit)
    if not (folder / ERROR).exists():
        write_error(folder, str(error), "".join(traceback.format_exception(error)))
