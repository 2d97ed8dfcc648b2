"""Which units of a run are done and fit what is there now; what no longer fits is named, or removed where that is asked for."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from typing import Any

from graftwork.errors import RecipeError
from graftwork.training.planning.plan import Unit
from graftwork.training.running.company import companies, forget_companies
from graftwork.training.running.finder import FOLDER
from graftwork.training.running.folder import (
    CHECKPOINTS,
    COMPARISON,
    COSTS,
    ERROR,
    RESULT,
    STATE,
    read_result,
    remove,
)
from graftwork.training.running.made_with import clean, misfits, read_made_with, stands_over, versions
from graftwork.training.running.workshop import Workshop

Result = dict[str, Any]


def settle_units(units: Sequence[Unit], shop: Workshop, *, redo: bool = False) -> dict[str, Result]:
    """The results of the units that are done, and fit rows, base, tokenizer and what they stand over as these are now.

    Args:
        units: All of the run, each behind those that it needs.
        shop: Where they are trained.
        redo: Whether what no longer fits, and what stands over it, is removed, so that it is made anew.

    Raises:
        RecipeError: If something no longer fits, naming each unit and what has changed.
    """
    done: dict[str, Result] = {}
    stale: dict[str, list[str]] = {}
    unknown: list[str] = []
    planned = {unit.id for unit in units}
    for unit in units:
        why: list[str] = []
        result = record = None
        try:
            result, record = read_result(unit, shop.run), read_made_with(unit, shop.run)
        except RecipeError as error:
            why = [str(error)]
        if not why and result is None and not _goes_on(unit, shop):
            continue
        over = [member.id for member in stands_over(unit, shop) if member.id in planned]
        why += [f"{one}, which it stands over, does not fit" for one in over if one in stale]
        if result is not None:
            why += [f"{one}, which it stands over, is not there" for one in over if one not in {*done, *stale}]
        if record is not None:
            why += misfits(unit, shop, record)
        if why:
            stale[unit.id] = why
        elif result is not None:
            done[unit.id] = result
            unknown += [unit.id] if record is None else []
    if stale and not redo:
        raise RecipeError(_said(stale, shop))
    for unit in reversed(units):  # what stands over another goes first: killed here, the rest is named the next time
        if unit.id in stale:
            (unit.folder(shop.run) / RESULT).unlink(missing_ok=True)
            shutil.rmtree(unit.folder(shop.run))
        elif unit.id in done:
            clean(unit.folder(shop.run))
    if stale:
        forget_companies(shop.run, stale)
        for name in (FOLDER, COMPARISON, COSTS):
            remove(shop.run / name)
    _warn(units, done, unknown, shop)
    return done


def _goes_on(unit: Unit, shop: Workshop) -> bool:
    """Whether a unit that is not done would go on from what it had; one that failed is tried again with what is there."""
    folder = unit.folder(shop.run)
    if (folder / ERROR).is_file() and (record := read_made_with(unit, shop.run)) and misfits(unit, shop, record):
        clean(folder)
    in_a_company = any(unit.id in ids for _, ids in companies(shop.run))
    return in_a_company or (folder / CHECKPOINTS).is_dir() or (folder / STATE).is_file()


def _said(stale: dict[str, list[str]], shop: Workshop) -> str:
    lines = [f"  {unit}: {'; '.join(why)}" for unit, why in stale.items()]
    count = "1 training" if len(stale) == 1 else f"{len(stale)} trainings"
    return "\n".join(
        [
            f"{count} of {shop.run} do{'es' if len(stale) == 1 else ''} not fit what is there now:",
            *lines,
            "Take the change back, give another --out, or have just these made anew: --redo (in Python redo=True)",
        ]
    )


def _warn(units: Sequence[Unit], done: dict[str, Result], unknown: Sequence[str], shop: Workshop) -> None:
    """Warn of other versions, and of trainings that do not say what they were made with."""
    now, others = versions(), dict[str, str]()
    for unit in units:
        record = read_made_with(unit, shop.run) if unit.id in done else None
        others |= {k: v for k, v in record["versions"].items() if now.get(k) != v} if record is not None else {}
    if others:
        said = ", ".join(f"{name} {was} (now {now.get(name, 'another')})" for name, was in others.items())
        warnings.warn(
            f"finished trainings of {shop.run} were made with {said}, by which others may differ", stacklevel=4
        )
    if unknown:
        warnings.warn(
            f"{len(unknown)} finished trainings of {shop.run}, such as {unknown[0]}, do not say what they were made with, as a "
            "version before wrote them; whether they fit is not known",
            stacklevel=4,
        )
