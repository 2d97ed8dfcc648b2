"""What a unit was made with: hashes of its rows, the base, the tokenizer, what it depends on, and of the files it made."""

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
_NOT_MADE = {*_WHILE_TRAINED, names.RESULT, MADE_WITH}
Record = dict[str, Any]


class MadeWith(Shape):
    """A unit's ``made_with.json``: written when it begins, and with its files when it is done.

    Attributes:
        base: Hash of the base.
        tokenizer: Hash of its tokenizer.
        rows: By task, the hash of the rows as they were read.
        over: By unit, or by name where it is trained elsewhere, the hash of the files that it depends on.
        versions: Of the libraries that make a difference.
        files: By path, the hashes of its own; ``None`` while it is trained.
    """

    base: str
    tokenizer: str
    rows: dict[str, str]
    over: dict[str, str]
    versions: dict[str, str]
    files: dict[str, str] | None


def note_begun(unit: Unit, context: RunContext) -> None:
    """Write down what a unit is made with; what it said when it failed the last time is forgotten."""
    folder = unit.folder(context.run)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MADE_WITH, _now(unit, context))
    names.remove(folder / names.ERROR)


def note_made(unit: Unit, context: RunContext) -> None:
    """Write down what a unit was made with, and the files that it has."""
    write_json(unit.folder(context.run) / MADE_WITH, {**_now(unit, context), "files": _made(unit.folder(context.run))})


def read_made_with(unit: Unit, run: Path) -> Record | None:
    """What a unit was made with; ``None`` where that is not known: versions before did not write it down.

    Raises:
        RecipeError: If the file is damaged.
    """
    path = unit.folder(run) / MADE_WITH
    return read_record(path, MadeWith) if path.is_file() else None


def misfits(unit: Unit, context: RunContext, record: Record) -> list[str]:
    """In words, what is not as it was when a unit was made; versions are no matter here.

    Args:
        unit: The unit.
        context: Where it was trained.
        record: What it was made with.
    """
    base = context.recipe.base
    said = [f"the base {base.model!r} has changed"] * (record["base"] != context.base_hash)
    said += [f"the tokenizer of {base.tokenizer or base.model!r} has changed"] * (
        record["tokenizer"] != context.tokenizer_hash
    )
    said += [
        f"the rows of {task!r} have changed"
        for task, was in record["rows"].items()
        if task not in context.tasks or context.rows_hash(task) != was
    ]
    over = _over(unit, context)
    said += [
        f"{name}, which it depends on, has changed"
        for name, was in record["over"].items()
        if name in over and over[name] != was
    ]
    made = record["files"] or {}
    there = _made(unit.folder(context.run), made)
    said += [
        f"its {path} {'has changed' if path in there else 'is gone'}" for path in made if made[path] != there.get(path)
    ]
    return said


def versions() -> dict[str, str]:
    """The versions of the libraries that make a difference."""
    return {
        "graftwork": graftwork.__version__,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }


def stands_over(unit: Unit, context: RunContext) -> list[Unit]:
    """The units whose files a unit reads: under it, in it, and the languages that it is scored in."""
    task = context.recipe.tasks.get(unit.task)
    own = next((member for member in unit.stacked_on if member.kind == "language"), None)
    others = [dataclasses.replace(own, task=place) for place in task.evaluate_in] if own and task else []
    return [*unit.stacked_on, *unit.members, *others]


def clean(folder: Path) -> None:
    """Remove what a unit has only while it is trained."""
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
    """The hash of what each unit that another depends on has made: as that unit says, else of its files as they are."""
    found = {}
    for member in stands_over(unit, context):
        elsewhere = context.recipe.trained.get(member.task)
        if elsewhere is not None:
            found[f"the adapter {member.task!r}"] = hash_json(hash_files(context.root / Path(elsewhere).expanduser()))
            continue
        try:
            made = (read_made_with(member, context.run) or {}).get("files")
        except RecipeError:
            made = None
        made = _made(member.folder(context.run)) if made is None else made
        if made:
            found[member.id] = hash_json({path: made[path] for path in made if path != PREDICTIONS})
    return found


def _made(folder: Path, paths: Iterable[str] | None = None) -> dict[str, str]:
    """The hashes of the files that a unit has made and are there, by default of all."""
    there = (
        [folder / path for path in paths]
        if paths is not None
        else [path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in _NOT_MADE]
    )
    return hash_files(folder, [path for path in there if path.is_file()])
