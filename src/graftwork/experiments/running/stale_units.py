"""The units of a run that are done and still fit; those that no longer fit are refused, or removed with ``redo``."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence

from graftwork.errors import RecipeError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.running import folder as files
from graftwork.experiments.running.finder import FOLDER
from graftwork.experiments.running.folder import read_result, remove
from graftwork.experiments.running.joint_pass import begun_passes, discard_passes
from graftwork.experiments.running.measuring import Result
from graftwork.experiments.running.provenance import clean, dependencies, misfits, read_made_with, versions
from graftwork.experiments.running.run_context import RunContext


def settle_units(units: Sequence[Unit], context: RunContext, *, redo: bool = False) -> dict[str, Result]:
    """The results of the units that are done, and fit the rows, base, tokenizer and dependencies of now.

    Args:
        units: All units of the run, each after those that it needs.
        context: The context that they are trained in.
        redo: Whether units that no longer fit, and those that depend on them, are removed, so that they are made anew.

    Raises:
        RecipeError: If a unit no longer fits, naming each and what has changed.
    """
    done: dict[str, Result] = {}
    stale: dict[str, list[str]] = {}
    unknown: list[str] = []
    planned = {unit.id for unit in units}
    for unit in units:
        why: list[str] = []
        result = record = None
        try:
            result, record = read_result(unit, context.run), read_made_with(unit, context.run)
        except RecipeError as error:
            why = [str(error)]
        if not why and result is None and not _goes_on(unit, context):
            continue
        needed = [member.id for member in dependencies(unit, context) if member.id in planned]
        why += [f"{one}, which it depends on, does not fit" for one in needed if one in stale]
        if result is not None:
            why += [f"{one}, which it depends on, is not there" for one in needed if one not in {*done, *stale}]
        if record is not None:
            why += misfits(unit, context, record)
        if why:
            stale[unit.id] = why
        elif result is not None:
            done[unit.id] = result
            unknown += [unit.id] if record is None else []
    if stale and not redo:
        raise RecipeError(_message(stale, context))
    for unit in reversed(units):  # those that depend on others first: if killed here, the rest is found the next time
        if unit.id in stale:
            (unit.folder(context.run) / files.RESULT).unlink(missing_ok=True)
            shutil.rmtree(unit.folder(context.run))
        elif unit.id in done:
            clean(unit.folder(context.run))
    if stale:
        discard_passes(context.run, stale)
        for name in (FOLDER, files.COMPARISON, files.COSTS):
            remove(context.run / name)
    _warn(units, done, unknown, context)
    return done


def _goes_on(unit: Unit, context: RunContext) -> bool:
    """Whether a unit that is not done would be resumed; the checkpoints of one that failed and no longer fits are removed."""
    folder = unit.folder(context.run)
    failed = (folder / files.ERROR).is_file()
    if failed and (record := read_made_with(unit, context.run)) and misfits(unit, context, record):
        clean(folder)
    in_a_pass = any(unit.id in ids for _, ids in begun_passes(context.run))
    return in_a_pass or (folder / files.CHECKPOINTS).is_dir() or (folder / files.STATE).is_file()


def _message(stale: dict[str, list[str]], context: RunContext) -> str:
    lines = [f"  {unit}: {'; '.join(why)}" for unit, why in stale.items()]
    count = "1 training" if len(stale) == 1 else f"{len(stale)} trainings"
    return "\n".join(
        [
            f"{count} of {context.run} do{'es' if len(stale) == 1 else ''} not fit what is there now:",
            *lines,
            "Take the change back, give another --out, or have just these made anew: --redo (in Python redo=True)",
        ]
    )


def _warn(units: Sequence[Unit], done: dict[str, Result], unknown: Sequence[str], context: RunContext) -> None:
    """Warn of other versions, and of trainings without a record of what they were made with."""
    now, others = versions(), dict[str, str]()
    for unit in units:
        record = read_made_with(unit, context.run) if unit.id in done else None
        others |= {k: v for k, v in record["versions"].items() if now.get(k) != v} if record is not None else {}
    if others:
        then = ", ".join(f"{name} {was} (now {now.get(name, 'another')})" for name, was in others.items())
        warnings.warn(
            f"finished trainings of {context.run} were made with {then}; new ones may differ from them", stacklevel=4
        )
    if unknown:
        warnings.warn(
            f"{len(unknown)} finished trainings of {context.run}, such as {unknown[0]}, do not say what they were made with, "
            "because an earlier version wrote them; whether they fit is not known",
            stacklevel=4,
        )
