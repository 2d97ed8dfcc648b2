"""The units of a run that are done and still fit; those that no longer fit are refused, or removed with ``redo``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from graftwork.errors import RecipeError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.running import folder as files
from graftwork.experiments.running.claims import Claims
from graftwork.experiments.running.finder import FOLDER
from graftwork.experiments.running.folder import is_done, read_result, remove
from graftwork.experiments.running.joint_pass import begun_passes, discard_passes
from graftwork.experiments.running.measuring import Result
from graftwork.experiments.running.provenance import Record, clean, dependencies, misfits, read_made_with, versions
from graftwork.experiments.running.run_context import RunContext


def settle_units(
    units: Sequence[Unit], context: RunContext, claims: Claims, *, redo: bool = False
) -> dict[str, Result]:
    """The results of the units that are done, and fit the rows, base, tokenizer and dependencies of now.

    Args:
        units: All units of the run, each after those that it needs.
        context: The context that they are trained in.
        claims: The claims of this worker; what others are training is left to them.
        redo: Whether units that no longer fit, and those that depend on them, are removed, so that they are made anew.

    Raises:
        RecipeError: If a unit no longer fits, naming each and what has changed; or with ``redo`` one is being trained.
    """
    done: dict[str, Result] = {}
    stale: dict[str, list[str]] = {}
    unknown: list[str] = []
    planned = {unit.id: unit for unit in units}
    in_a_pass = {one for named in begun_passes(context.run).values() for one in named}
    for unit in units:
        why: list[str] = []
        result = record = None
        try:
            result = read_result(unit, context.run)
            if result is None:
                goes_on, record = _begun(unit, context, claims, unit.id in in_a_pass)
                if not goes_on:
                    continue
            else:
                record = read_made_with(context.folder(unit))
        except RecipeError as error:
            why = [str(error)]
        needed = [member.id for member in dependencies(unit, context) if member.id in planned]
        why += [f"{one}, which it depends on, does not fit" for one in needed if one in stale]
        if result is not None:  # a moment ago: another worker may have ended both since the first was looked at
            lacking = [one for one in needed if one not in {*done, *stale} and not is_done(planned[one], context.run)]
            why += [f"{one}, which it depends on, is not there" for one in lacking]
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
            claim = claims.take(unit.id, unit.folder(context.run))
            if claim is None:
                raise RecipeError(
                    f"{unit.id} is to be made anew, and {claims.holder(unit.id)} is training it; end that worker first"
                )
            claim.release(keep=False)
        elif unit.id in done:
            clean(unit.folder(context.run))
    if stale:
        discard_passes(context.run, stale)
        for name in (FOLDER, files.COMPARISON, files.COSTS):
            remove(context.run / name)
    _warn(units, done, unknown, context)
    return done


def _begun(unit: Unit, context: RunContext, claims: Claims, in_a_pass: bool) -> tuple[bool, Record | None]:
    """Whether a unit that is not done would be resumed, and what it was begun with.

    One that another worker trains is left to it; the checkpoints of one that failed and no longer fits are removed.
    """
    folder = unit.folder(context.run)
    if not folder.exists() and not claims.file(unit.id).exists():
        return False, None
    claim = claims.take(unit.id, folder, unless=lambda at: (at / files.RESULT).is_file())
    if claim is None:
        return False, None
    context.held[unit.id] = folder = claim.folder
    try:
        record = read_made_with(context.folder(unit))
        if (folder / files.ERROR).is_file() and record is not None and misfits(unit, context, record):
            clean(folder)
        return in_a_pass or (folder / files.CHECKPOINTS).is_dir() or (folder / files.STATE).is_file(), record
    finally:
        del context.held[unit.id]
        claim.release()


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
        record = read_made_with(context.folder(unit)) if unit.id in done else None
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
