"""The folder of a run: one process at a time, one recipe for good; its files read and written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from graftwork.checkpoint.folders import replace_file
from graftwork.errors import RecipeError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.base import is_model
from graftwork.experiments.running.records import Predictions, Shape, UnitResult, damaged, read_record

RECIPE = "recipe.json"
RESULTS, COMPARISON, COSTS = "results.json", "comparison.json", "costs.json"
RESULT, PREDICTIONS, MADE_WITH = "result.json", "predictions.json", "made_with.json"  # in the folder of a unit
# In the folder of a unit while it is trained.
CHECKPOINTS, STEPS, STATE, CLOCK, ERROR = "checkpoints", "steps", "sequence.json", "seconds", "error.txt"
_LOCK, _HOLDER, _ROOT = ".lock", ".holder.json", ".root"
# What may grow in a run that has begun: what is done stays what it is.
_GROWING = ("targets", "seeds", "controls", "methods")


class _Holder(Shape):
    process: int
    host: str
    since: str


class _Root(Shape):
    """Where the paths of a recipe begin: seen from the run's folder, and as a whole path; which of them are local bases."""

    root: str
    was: str
    bases: list[str]


@contextlib.contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Hold a run's folder, so that no two processes write into it; what a killed process left half written is removed.

    Raises:
        RecipeError: If another process holds it, saying which; or the folder cannot be made.
    """
    lock = FileLock(str(run / _LOCK))
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        holder = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        write_json(run / _HOLDER, holder)
    except Timeout as error:
        raise RecipeError(f"{run} is in use by {_holder(run)}; wait for it, or give another --out") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise RecipeError(f"{run} is no folder; give another --out") from error
    except (OSError, ValueError) as error:
        lock.release()
        said = getattr(error, "strerror", None) or error
        raise RecipeError(f"{str(run)!r:.200} cannot be written into ({said}); give another --out") from error
    try:
        for left in _half_written(run):
            remove(left)
        yield
    finally:
        (run / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _half_written(run: Path) -> list[Path]:
    """What a killed process has left of files that only the holder of the folder writes."""
    ours = [RECIPE, RESULTS, COMPARISON, COSTS, _HOLDER, _ROOT]
    found = [path for name in ours for path in run.glob(f".{name}.graftwork.*.new")]
    inside = ("units", "together", "finder")
    return [*found, *(path for name in inside for path in (run / name).rglob(".*.graftwork.*.new"))]


def settle_recipe(run: Path, recipe: Recipe, root: Path) -> None:
    """Write the recipe, and where it lies, into a new run's folder; refuse another one in an old.

    Raises:
        RecipeError: Naming the keys that differ, or the base that is not where it was.
    """
    now = recipe.model_dump(mode="json")
    path = run / RECIPE
    if path.is_file():
        before = recipe_of(run).model_dump(mode="json")
        differing = [".".join(at) for at in _differences(before, now) if not _grown(at, before, now)]
        if differing:
            raise RecipeError(
                f"{run} was begun with another recipe: {', '.join(differing[:5])} {'differ' if len(differing) > 1 else 'differs'}. "
                f"Give another --out, or take the change back; {', '.join(_GROWING[:-1])} and {_GROWING[-1]} may grow"
            )
        root_of(run, root)
    elif (run / "units").exists():
        raise RecipeError(f"{run} has units and no {RECIPE}; give another --out")
    # what was not said stays unsaid: a task refuses options that mean nothing for its kind
    write_json(path, recipe.model_dump(mode="json", exclude_unset=True))
    bases = [name for name in (recipe.base.model, recipe.base.tokenizer) if name and is_model(root / name)]
    whole = root.resolve()
    write_json(run / _ROOT, {"root": os.path.relpath(whole, run.resolve()), "was": str(whole), "bases": bases})


def root_of(run: Path, root: str | Path | None = None) -> Path:
    """What the paths of a run's recipe are relative to: the folder where it lay.

    Args:
        run: The run's folder. Where it was moved, the recipe is looked for where it was then.
        root: What it is instead.

    Raises:
        RecipeError: If the base is a folder beside the recipe, and is not there: it is not looked for on the Hub.
    """
    path = run / _ROOT
    if not path.is_file():
        return Path() if root is None else Path(root)
    text = path.read_bytes()
    if not text.startswith(b"{"):  # version 0.1.0 wrote the path alone
        return run / os.fsdecode(text) if root is None else Path(root)
    told = read_record(path, _Root, "delete it, and the same `graftwork run` writes it again")
    places = [run / told["root"], Path(told["was"])] if root is None else [Path(root)]
    for place in places:
        if all(is_model(place / base) for base in told["bases"]):
            return place
    looked = " and in ".join(dict.fromkeys(str(place) for place in places))
    raise RecipeError(
        f"{run} was trained on the base {told['bases'][0]!r}, a folder beside its recipe, which is not in {looked}; put it there, "
        "or say where it is: root=FOLDER, or graftwork predict --root FOLDER"
    )


def recipe_of(run: Path) -> Recipe:
    """The recipe that a run was begun with.

    Raises:
        RecipeError: If the folder is none of a run.
    """
    path = run / RECIPE
    if not path.is_file():
        raise RecipeError(f"{run} is no folder of a run: it has no {RECIPE}; give what `graftwork run` wrote into")
    return Recipe.make(read_record(path, Any, "put back what `graftwork run` wrote, or give another --out"), str(path))


def _holder(run: Path) -> str:
    try:
        told = read_record(run / _HOLDER, _Holder)
        return f"process {told['process']} on {told['host']} (since {told['since']})"
    except RecipeError:
        return "another process"


def write_json(path: Path, value: Any) -> None:
    """Write JSON into a file, whole or not at all."""
    replace_file(path, (json.dumps(value, indent=1) + "\n").encode())


def remove(path: Path) -> None:
    """Remove a file or a folder, where there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def read_result(unit: Unit, run: Path) -> dict[str, Any] | None:
    """The result of a unit that is done.

    Raises:
        RecipeError: If it is damaged, or that of another unit.
    """
    path = unit.folder(run) / RESULT
    if not path.is_file():
        return None
    way_out = "`graftwork run RECIPE --redo` trains it anew"
    told: dict[str, Any] = read_record(path, UnitResult, way_out)
    said = [*(told[key] for key in ("unit", "kind", "task", "seed")), told.get("method", ""), {*told.get("tasks", ())}]
    if said != [unit.id, unit.kind, unit.task, unit.seed, unit.method, {*unit.tasks}]:
        raise damaged(path, f"it is not that of {unit.id}", way_out)
    return told


def write_error(folder: Path, why: str, told: str) -> None:
    """Write down why a unit failed: what was said first, then where."""
    replace_file(folder / ERROR, f"{why}\n\n{told}".encode("utf-8", "backslashreplace"))


def read_error(folder: Path) -> str | None:
    """Why a unit failed that was not tried again since, in a line; ``None`` where it did not."""
    path = folder / ERROR
    return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if path.is_file() else None


def read_predictions(folder: Path) -> dict[str, list[Any]]:
    """What a unit that is done says of the rows that it was scored on, by task: a value a row."""
    found: dict[str, list[Any]] = read_record(folder / PREDICTIONS, Predictions)
    return found


def _differences(one: Any, other: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where two recipes differ: keys, and keys in tables."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys((*one, *other))
        missing = object()
        return [found for k in keys for found in _differences(one.get(k, missing), other.get(k, missing), (*at, k))]
    return [] if one == other else [at]


def _grown(at: tuple[str, ...], before: Any, now: Any) -> bool:
    """Whether a list got more behind what was there, the first seed still the first; or a table one that was not there."""
    key, *names = at
    if key == "tasks" and names[1:] in (["description"], ["prompts"]):
        return True  # nothing is trained by them but the finder, which is fitted anew
    if key not in _GROWING:
        return False
    if not names:
        return bool(now[key][: len(before[key])] == before[key])
    return len(names) == 1 and names[0] not in before[key]
