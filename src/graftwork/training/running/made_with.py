"""What a unit was made with: hashes of its rows, the base, the tokenizer, what it stands over, and of the files it made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers

import graftwork
from graftwork.errors import RecipeError
from graftwork.training.planning.plan import Unit
from graftwork.training.running import folder as names
from graftwork.training.running.folder import MADE_WITH, PREDICTIONS, write_json
from graftwork.training.running.hashes import hash_files, hash_json
from graftwork.training.running.records import Shape, read_record
from graftwork.training.running.workshop import Workshop

_WHILE_TRAINED = {names.CHECKPOINTS, names.STEPS, names.STATE, names.CLOCK, names.ERROR}
_NOT_MADE = {*_WHILE_TRAINED, names.RESULT, MADE_WITH}
Record = dict[str, Any]


class MadeWith(Shape):
    """A unit's ``made_with.json``: written when it begins, and with its files when it is done.

    Attributes:
        base: Hash of the base.
        tokenizer: Hash of its tokenizer.
        rows: By task, the hash of the rows as they were read.
        over: By unit, or by name where it is trained elsewhere, the hash of the files that it stands over.
        versions: Of the libraries that make a difference.
        files: By path, the hashes of its own; ``None`` while it is trained.
    """

    base: str
    tokenizer: str
    rows: dict[str, str]
    over: dict[str, str]
    versions: dict[str, str]
    files: dict[str, str] | None


def note_begun(unit: Unit, shop: Workshop) -> None:
    """Write down what a unit is made with; what it said when it failed the last time is forgotten."""
    folder = unit.folder(shop.run)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MADE_WITH, _now(unit, shop))
    names.remove(folder / names.ERROR)


def note_made(unit: Unit, shop: Workshop) -> None:
    """Write down what a unit was made with, and the files that it has."""
    write_json(unit.folder(shop.run) / MADE_WITH, {**_now(unit, shop), "files": _made(unit.folder(shop.run))})


def read_made_with(unit: Unit, run: Path) -> Record | None:
    """What a unit was made with; ``None`` where that is not known: versions before did not write it down.

    Raises:
        RecipeError: If the file is damaged.
    """
    path = unit.folder(run) / MADE_WITH
    return read_record(path, MadeWith) if path.is_file() else None


def misfits(unit: Unit, shop: Workshop, record: Record) -> list[str]:
    """In words, what is not as it was when a unit was made; versions are no matter here.

    Args:
        unit: The unit.
        shop: Where it was trained.
        record: What it was made with.
    """
    base = shop.recipe.base
    said = [f"the base {base.model!r} has changed"] * (record["base"] != shop.base_hash)
    said += [f"the tokenizer of {base.tokenizer or base.model!r} has changed"] * (
        record["tokenizer"] != shop.tokenizer_hash
    )
    said += [
        f"the rows of {task!r} have changed"
        for task, was in record["rows"].items()
        if task not in shop.tasks or shop.rows_hash(task) != was
    ]
    over = _over(unit, shop)
    said += [
        f"{name}, which it stands over, has changed"
        for name, was in record["over"].items()
        if name in over and over[name] != was
    ]
    made = record["files"] or {}
    there = _made(unit.folder(shop.run), made)
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


def stands_over(unit: Unit, shop: Workshop) -> list[Unit]:
    """The units whose files a unit reads: under it, in it, and the languages that it is scored in."""
    task = shop.recipe.tasks.get(unit.task)
    own = next((member for member in unit.under if member.kind == "language"), None)
    others = [dataclasses.replace(own, task=place) for place in task.evaluate_in] if own and task else []
    return [*unit.under, *unit.members, *others]


def clean(folder: Path) -> None:
    """Remove what a unit has only while it is trained."""
    for name in _WHILE_TRAINED:
        names.remove(folder / name)


def _now(unit: Unit, shop: Workshop) -> Record:
    return {
        "base": shop.base_hash,
        "tokenizer": shop.tokenizer_hash,
        "rows": {task: shop.rows_hash(task) for task in unit.tasks or (unit.task,)},
        "over": _over(unit, shop),
        "versions": versions(),
        "files": None,
    }


def _over(unit: Unit, shop: Workshop) -> dict[str, str]:
    """The hash of what each unit that another stands over has made: as that unit says, else of its files as they are."""
    found = {}
    for member in stands_over(unit, shop):
        elsewhere = shop.recipe.trained.get(member.task)
        if elsewhere is not None:
            found[f"the adapter {member.task!r}"] = hash_json(hash_files(shop.root / Path(elsewhere).expanduser()))
            continue
        try:
            made = (read_made_with(member, shop.run) or {}).get("files")
        except RecipeError:
            made = None
        made = _made(member.folder(shop.run)) if made is None else made
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
