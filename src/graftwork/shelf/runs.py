"""The run that a folder is in: its task, seed and score. What is damaged there is left out: the adapter can be used without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from graftwork.checkpoint.json_files import read_json
from graftwork.errors import CheckpointError
from graftwork.shelf.records import History

RECIPE, UNITS, RESULT, ROOT = "recipe.json", "units", "result.json", ".root"
WHILE_TRAINED = ("checkpoints", "steps")  # folders of a unit that is not done
_DEEPEST = 8  # folders between an adapter and its run


class _Scores(BaseModel):
    """The part of a unit's result that is shown; it has more."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    metric: str | None = None
    score: float | None = None
    scored_on: str | None = None


class _Result(_Scores):
    tasks: dict[str, _Scores] = {}


def is_run(folder: Path) -> bool:
    """Whether a folder is one that ``graftwork run`` wrote into."""
    return (folder / RECIPE).is_file() and (folder / UNITS).is_dir()


def run_around(folder: Path) -> Path | None:
    """The folder of the run that a folder is in."""
    return next((parent for parent in list(folder.parents)[:_DEEPEST] if is_run(parent)), None)


def base_of(run: Path) -> str | None:
    """The name or folder of a run's base, as its recipe says it; a folder is relative to the recipe."""
    try:
        name = read_json(run / RECIPE).get("base", {}).get("model")
    except (CheckpointError, OSError, AttributeError):
        return None
    return name if isinstance(name, str) else None


def unit_folders(run: Path) -> dict[str, bool]:
    """The units of a run by their names, and whether each is done."""
    found = sorted(path for path in (run / UNITS).glob("*/*/*") if path.is_dir())
    return {path.relative_to(run / UNITS).as_posix(): (path / RESULT).is_file() for path in found}


def history_in(run: Path, folder: Path) -> History:
    """What a run says of a folder in it."""
    label, task, seed, *inside = [*folder.relative_to(run / UNITS).parts, "", "", ""][: _DEEPEST + 3]
    unit = run / UNITS / label / task / seed
    result = _result(unit / RESULT)
    if len(inside) > 1 and inside[0] in ("adapters", "heads") and inside[1] in result.tasks:
        task = inside[1]
    scores = result.tasks.get(task, result)
    return History(
        run=run,
        unit=f"{label}/{folder.relative_to(run / UNITS).parts[1]}/{seed}",
        task=task,
        seed=int(seed) if seed.lstrip("-").isdecimal() else None,
        **{key: getattr(scores, key) for key in _Scores.model_fields},
    )


def _result(path: Path) -> _Result:
    try:
        data: Any = read_json(path)
        return _Result.model_validate(data)
    except (CheckpointError, OSError, ValidationError, json.JSONDecodeError):
        return _Result()


def roots_of(run: Path) -> list[Path]:
    """The folders that a run's recipe is relative to: as written beside it, and where it was at first."""
    try:
        data = read_json(run / ROOT)
        return [run / str(data["root"]), Path(str(data["was"]))]
    except (CheckpointError, OSError, KeyError):
        return []
