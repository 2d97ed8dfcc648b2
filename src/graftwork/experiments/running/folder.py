"""The folder of a run: for one recipe; its files read and written."""

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
from graftwork.errors import RecipeError, TrainingError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.base import is_model
from graftwork.experiments.running.records import Shape, UnitResult, damaged, read_record

RECIPE = "recipe.json"
RESULTS, COMPARISON, COSTS = "results.json", "comparison.json", "costs.json"
RESULT, PREDICTIONS, MADE_WITH = "result.json", "predictions.json", "made_with.json"  # in the folder of a unit
# In the folder of a unit while it is trained.
CHECKPOINTS, STEPS, STATE, CLOCK, ERROR = "checkpoints", "steps", "sequence.json", "seconds", "error.txt"
LOG = "log.txt"  # in the folder of a unit: which workers began it, took it over and ended it
_LOCK, _HOLDER, _ROOT = ".lock", ".holder.json", ".root"
# The keys that may grow in a run that has begun; what is done stays as it is.
_GROWING = ("targets", "seeds", "controls", "methods")


class _Holder(Shape):
    process: int
    host: str
    since: str


class _Root(Shape):
    """What a recipe's paths are relative to, as a relative and as an absolute path; and which of them are local bases."""

    root: str
    was: str
    bases: list[str]


@contextlib.contextmanager
def claimed(run: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold a run's folder to write what is not of a unit; files of that which a killed process left half written are removed.

    Args:
        run: The folder; made where it is not there.
        wait: The seconds to wait for another process.

    Raises:
        RecipeError: If another process holds it, naming it; or if the folder cannot be made.
    """
    lock = FileLock(str(run / _LOCK))
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait)
        holder = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        write_json(run / _HOLDER, holder)
    except Timeout as error:
        raise RecipeError(f"{run} is in use by {_holder(run)}; wait for it, or give another --out") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise RecipeError(f"{run} is no folder; give another --out") from error
    except NotImplementedError as error:
        raise RecipeError(f"{run} is on a file system without locks ({error}); give another --out") from error
    except (OSError, ValueError) as error:
        lock.release()
        why = getattr(error, "strerror", None) or error
        raise RecipeError(f"{str(run)!r:.200} cannot be written into ({why}); give another --out") from error
    try:
        # half-written files, of those that only the holder of the folder writes
        for name in (RECIPE, COMPARISON, COSTS, _HOLDER, _ROOT):
            for path in run.glob(f".{name}.graftwork.*.new"):
                remove(path)
        yield
    finally:
        (run / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(run: Path) -> str:
    try:
        holder = read_record(run / _HOLDER, _Holder)
        return f"process {holder['process']} on {holder['host']} (since {holder['since']})"
    except RecipeError:
        return "another process"


def settle_recipe(run: Path, recipe: Recipe, root: Path) -> None:
    """Write the recipe, and where its file is, into a new run's folder; refuse another recipe in an old one.

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
    # without defaults: a task refuses options that its kind does not have
    write_json(path, recipe.model_dump(mode="json", exclude_unset=True))
    bases = [name for name in (recipe.base.model, recipe.base.tokenizer) if name and is_model(root / name)]
    whole = root.resolve()
    write_json(run / _ROOT, {"root": os.path.relpath(whole, run.resolve()), "was": str(whole), "bases": bases})


def root_of(run: Path, root: str | Path | None = None) -> Path:
    """The folder of a run's recipe, which its paths are relative to.

    Args:
        run: The run's folder. If it was moved alone, the recipe is looked for at its former place too.
        root: The folder to use instead.

    Raises:
        RecipeError: If the base is a folder relative to the recipe, and is not there: it is not looked for on the Hub.
    """
    path = run / _ROOT
    if not path.is_file():
        return Path() if root is None else Path(root)
    text = path.read_bytes()
    if not text.startswith(b"{"):  # version 0.1.0 wrote the path alone
        return run / os.fsdecode(text) if root is None else Path(root)
    record = read_record(path, _Root, "delete it, and the same `graftwork run` writes it again")
    places = [run / record["root"], Path(record["was"])] if root is None else [Path(root)]
    for place in places:
        if all(is_model(place / base) for base in record["bases"]):
            return place
    looked = " and in ".join(dict.fromkeys(str(place) for place in places))
    raise RecipeError(
        f"{run} was trained on the base {record['bases'][0]!r}, a folder beside its recipe, which is not in {looked}; put it "
        "there, or say where it is: root=FOLDER, or graftwork predict --root FOLDER"
    )


def recipe_of(run: Path) -> Recipe:
    """The recipe that a run was begun with.

    Raises:
        RecipeError: If the folder is not that of a run.
    """
    path = run / RECIPE
    if not path.is_file():
        raise RecipeError(f"{run} is no folder of a run: it has no {RECIPE}; give what `graftwork run` wrote into")
    return Recipe.make(read_record(path, Any, "put back what `graftwork run` wrote, or give another --out"), str(path))


def gone(run: Path) -> TrainingError:
    """The error for the folder of a run that was deleted while it was worked on."""
    return TrainingError(
        f"{run} is gone: it was moved or deleted. Nothing more is written there; give its new place, or start again"
    )


def write_json(path: Path, value: Any) -> None:
    """Write JSON into a file, whole or not at all."""
    replace_file(path, (json.dumps(value, indent=1) + "\n").encode())


def remove(path: Path) -> None:
    """Remove a file or a folder, where there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_done(unit: Unit, run: Path) -> bool:
    """Whether a unit has its result."""
    return (unit.folder(run) / RESULT).is_file()


def read_result(unit: Unit, run: Path) -> dict[str, Any] | None:
    """The result of a unit that is done.

    Raises:
        RecipeError: If it is damaged, or that of another unit.
    """
    path = unit.folder(run) / RESULT
    if not path.is_file():
        return None
    way_out = "`graftwork run RECIPE --redo` trains it anew"
    result: dict[str, Any] = read_record(path, UnitResult, way_out)
    which = [*(result[key] for key in ("unit", "kind", "task", "seed")), result.get("method", "")]
    if [*which, {*result.get("tasks", ())}] != [unit.id, unit.kind, unit.task, unit.seed, unit.method, {*unit.tasks}]:
        raise damaged(path, f"it is not that of {unit.id}", way_out)
    return result


def write_error(folder: Path, why: str, traceback: str) -> None:
    """Write down why a unit failed: the message first, then the traceback."""
    replace_file(folder / ERROR, f"{why}\n\n{traceback}".encode("utf-8", "backslashreplace"))


def read_error(folder: Path) -> str | None:
    """The message of a unit that failed and was not tried again, in a line; ``None`` where it did not fail."""
    path = folder / ERROR
    return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if path.is_file() else None


def read_predictions(folder: Path) -> dict[str, list[Any]]:
    """The predictions of a finished unit for the rows that it was scored on, by task: a value for each row."""
    found: dict[str, list[Any]] = read_record(folder / PREDICTIONS, dict[str, list[Any]])
    return found


def _differences(one: Any, other: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The keys in which two recipes differ, with those of the tables that they are in."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys((*one, *other))
        missing = object()
        return [found for k in keys for found in _differences(one.get(k, missing), other.get(k, missing), (*at, k))]
    return [] if one == other else [at]


def _grown(at: tuple[str, ...], before: Any, now: Any) -> bool:
    """Whether a list has new entries at its end, or a table a new key."""
    key, *names = at
    if key == "tracking":
        return True  # no result depends on it
    if key == "tasks" and names[1:] in (["description"], ["prompts"]):
        return True  # only the finder uses them, and it is fitted anew
    if key not in _GROWING:
        return False
    if not names:
        return bool(now[key][: len(before[key])] == before[key])
    return len(names) == 1 and names[0] not in before[key]
