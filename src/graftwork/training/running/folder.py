"""The folder of a run: one process at a time, one recipe for good."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from graftwork.checkpoint.folders import replace_file
from graftwork.errors import RecipeError
from graftwork.training.planning.recipe import Recipe

RECIPE = "recipe.json"
RESULTS = "results.json"
RESULT, PREDICTIONS = "result.json", "predictions.json"  # in the folder of a unit
_LOCK, _HOLDER, _ROOT = ".lock", ".holder.json", ".root"
# What may grow in a run that has begun: what is done stays what it is.
_GROWING = ("targets", "seeds", "controls", "methods")


@contextlib.contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Hold a run's folder, so that no two processes write into it.

    Raises:
        RecipeError: If another process holds it, saying which; or the folder cannot be made.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(run / _LOCK))
        with lock.acquire(timeout=0):
            holder = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            replace_file(run / _HOLDER, json.dumps(holder).encode())
            yield
            (run / _HOLDER).unlink(missing_ok=True)
    except Timeout as error:
        raise RecipeError(f"{run} is in use by {_holder(run)}; wait for it, or give another --out") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise RecipeError(f"{run} is no folder; give another --out") from error
    except PermissionError as error:
        raise RecipeError(f"{run} cannot be written into ({error.strerror}); give another --out") from error


def settle_recipe(run: Path, recipe: Recipe, root: Path) -> None:
    """Write the recipe, and where it lies, into a new run's folder; refuse another one in an old.

    Raises:
        RecipeError: Naming the keys that differ.
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
    elif (run / "units").exists():
        raise RecipeError(f"{run} has units and no {RECIPE}; give another --out")
    # what was not said stays unsaid: a task refuses options that mean nothing for its kind
    said = recipe.model_dump(mode="json", exclude_unset=True)
    replace_file(path, (json.dumps(said, indent=1) + "\n").encode())
    replace_file(run / _ROOT, os.path.relpath(root.resolve(), run.resolve()).encode())


def root_of(run: Path) -> Path:
    """What the paths of a run's recipe are relative to: where it lay, seen from the run's folder."""
    path = run / _ROOT
    return run / path.read_text(encoding="utf-8") if path.is_file() else Path()


def recipe_of(run: Path) -> Recipe:
    """The recipe that a run was begun with.

    Raises:
        RecipeError: If the folder is none of a run.
    """
    path = run / RECIPE
    if not path.is_file():
        raise RecipeError(f"{run} is no folder of a run: it has no {RECIPE}; give what `graftwork run` wrote into")
    return Recipe.make(read_json(path), str(path))


def _holder(run: Path) -> str:
    try:
        told = read_json(run / _HOLDER)
        return f"process {told['process']} on {told['host']} (since {told['since']})"
    except (OSError, RecipeError, KeyError):
        return "another process"


def read_json(path: Path) -> Any:
    """What a file of a run says.

    Raises:
        RecipeError: If it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecipeError(
            f"{path} is damaged ({error}); delete it, and the same `graftwork run` makes it again where it can"
        ) from error


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of a unit that is done."""
    path = folder / RESULT
    return read_json(path) if path.is_file() else None


def read_predictions(folder: Path) -> dict[str, list[Any]]:
    """What a unit that is done says of the rows that it was scored on, by task: a value a row."""
    return read_json(folder / PREDICTIONS)  # type: ignore[no-any-return]


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
