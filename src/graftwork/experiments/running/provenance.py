"""What a unit was made with: hashes of its rows, the base, the tokenizer, what it depends on, and its own files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers

import graftwork
from graftwork.errors import RecipeError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.running import folder as names
from graftwork.experiments.running.folder import MADE_WITH, PREDICTIONS, write_json
from graftwork.experiments.running.hashes import hash_files, hash_json
from graftwork.experiments.running.records import Shape, read_record
from graftwork.experiments.running.run_context import RunContext

_WHILE_TRAINED = {names.CHECKPOINTS, names.STEPS, names.STATE, names.CLOCK, names.ERROR}
_NOT_MADE = {*_WHILE_TRAINED, names.RESULT, names.LOG, MADE_WITH}
Record = dict[str, Any]


class MadeWith(Shape):
    """A unit's ``made_with.json``: written when it begins, and with its files when it is done.

    Attributes:
        base: The hash of the base.
        tokenizer: The hash of its tokenizer.
        rows: The hash of the rows as they were read, by task.
        over: The hash of the files that it depends on, by unit, or by name where they are trained elsewhere.
        versions: The versions of the libraries that make a difference.
        files: The hashes of its own files by path; ``None`` while it is trained.
    """

    base: str
    tokenizer: str
    rows: dict[str, str]
    over: dict[str, str]
    versions: dict[str, str]
    files: dict[str, str] | None


def note_begun(unit: Unit, context: RunContext) -> None:
    """Write down what a unit is made with, and remove the error of the last time."""
    folder = context.folder(unit)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MADE_WITH, _now(unit, context))
    names.remove(folder / names.ERROR)


def note_made(unit: Unit, context: RunContext) -> None:
    """Write down what a unit was made with, and its files."""
    folder = context.folder(unit)
    write_json(folder / MADE_WITH, {**_now(unit, context), "files": _made(folder)})


def read_made_with(folder: Path) -> Record | None:
    """What the unit in a folder was made with; ``None`` where it was not begun, or an earlier version did not write it down.

    Raises:
        RecipeError: If the file is damaged.
    """
    path = folder / MADE_WITH
    return read_record(path, MadeWith) if path.is_file() else None


def misfits(unit: Unit, context: RunContext, record: Record) -> list[str]:
    """The differences, in words, from what a unit was made with according to its record; versions do not count here."""
    base, found = context.recipe.base, []
    if record["base"] != context.base_hash:
        found.append(f"the base {base.model!r} has changed")
    if record["tokenizer"] != context.tokenizer_hash:
        found.append(f"the tokenizer of {base.tokenizer or base.model!r} has changed")
    for task, was in record["rows"].items():
        if task not in context.tasks or context.rows_hash(task) != was:
            found.append(f"the rows of {task!r} have changed")
    below = _over(unit, context)
    for name, was in record["over"].items():
        if below.get(name, was) != was:
            found.append(f"{name}, which it depends on, has changed")
    made = record["files"] or {}
    there = _made(context.folder(unit), made)
    for path, was in made.items():
        if there.get(path) != was:
            found.append(f"its {path} {'has changed' if path in there else 'is gone'}")
    return found


def versions() -> dict[str, str]:
    """The versions of the libraries that make a difference."""
    return {
        "graftwork": graftwork.__version__,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }


def dependencies(unit: Unit, context: RunContext) -> list[Unit]:
    """The units whose files a unit reads: its members, those below it, and the languages that it is scored in."""
    task, own = context.recipe.tasks.get(unit.task), unit.language
    others = [dataclasses.replace(own, task=place) for place in task.evaluate_in] if own and task else []
    return [*unit.stacked_on, *unit.members, *others]


def clean(folder: Path) -> None:
    """Remove the files that a unit has only while it is trained."""
    for name in _WHILE_TRAINED:
        names.remove(folder / name)


def _now(unit: Unit, context: RunContext) -> Record:
    return {
        "base": context.base_hash,
        "tokenizer": context.tokenizer_hash,
        "rows": {task: context.rows_hash(task) for task in unit.tasks or (unit.task,)},
        "over": _over(unit, context),
        "versions": versions(),
        "files": None,
    }


def _over(unit: Unit, context: RunContext) -> dict[str, str]:
    """The hash of the files of each unit that a unit depends on: those that its record names, else all that are there."""
    found = {}
    for member in dependencies(unit, context):
        elsewhere = context.recipe.trained.get(member.task)
        if elsewhere is not None:
            found[f"the adapter {member.task!r}"] = hash_json(hash_files(context.root / Path(elsewhere).expanduser()))
            continue
        try:
            made = (read_made_with(context.folder(member)) or {}).get("files")
        except RecipeError:
            made = None
        made = _made(member.folder(context.run)) if made is None else made
        if made:
            found[member.id] = hash_json({path: made[path] for path in made if path != PREDICTIONS})
    return found


def _made(folder: Path, paths: Iterable[str] | None = None) -> dict[str, str]:
    """The hashes of those of the named files that are there; by default of all that the unit has made."""
    if paths is None:
        there = [path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in _NOT_MADE]
    else:
        there = [folder / path for path in paths]
    return hash_files(folder, [path for path in there if path.is_file()])
