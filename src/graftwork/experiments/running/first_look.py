"""A first look at data and base: what kind of task it is, what is to be noticed, and a recipe to begin with."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from graftwork.errors import RecipeError, TaskError
from graftwork.experiments.planning.checks import check_before
from graftwork.experiments.planning.first_recipe import FirstTask, first_recipe
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.planning.tables import BaseTable
from graftwork.experiments.running.base import find_model, is_model, load_processor
from graftwork.tasks import Task, TaskSpec, kinds
from graftwork.tasks.guessing import Guess, guess
from graftwork.tasks.noticing import notice, uneven
from graftwork.tasks.reading import Splits, draw, path_of, read_splits

_ENCODED = 2000  # rows whose tokens are counted
_USUAL, _SHORTEST, _WRITTEN = 128, 16, 96  # tokens of a row: where nothing is known, at least, at least with an answer
_ENDLESS = 1_000_000  # some tokenizers say a number like 10^30


@dataclasses.dataclass(frozen=True)
class FirstLook:
    """What a first look has found.

    Attributes:
        recipe: The text of a recipe.
        guesses: What each task seems to be, by name.
        noticed: Sentences about each task's rows, by name.
        lengths: How long the rows are.
        refused: Why `graftwork run` would not take the data; ``None`` where it does.
    """

    recipe: str
    guesses: Mapping[str, Guess]
    noticed: Mapping[str, list[str]]
    lengths: str
    refused: TaskError | None


def first_look(
    data: Mapping[str, Mapping[str, Path]],
    base: str,
    target: str,
    folder: Path,
    *,
    kind: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> FirstLook:
    """Look at data and a base, and make a recipe of what is found.

    Args:
        data: For each task by name its files, ``{"train": ..., "dev": ..., "test": ...}``, or ``{"data": ...}``, a folder.
        base: A folder, an installed package with a model in it, or a name on the Hub.
        target: The task that is to be served best.
        folder: The folder that the recipe will be in.
        kind: The kind of the target; by default guessed, as that of the other tasks is.
        columns: The columns of some roles in the target's rows; by default guessed too.

    Raises:
        TaskError: If data cannot be read, or does not say what kind of task it is.
        RecipeError: If the base cannot be read, or does not fit.
    """
    base = _from(folder, base) if is_model(Path(base).expanduser()) else base
    where = find_model(base, folder)
    config = _config(where)
    guesses, noticed, tasks = {}, {}, []
    refused: TaskError | None = None
    read: list[Task] = []
    for name, files in data.items():
        of_target = name == target
        paths: dict[str, Any] = {key: _from(folder, path) for key, path in files.items()}
        images = "data" in files and (path_of(files["data"]) / "train").is_dir()
        named = (kind if of_target else None) or ("image_classification" if images else None)
        splits = read_splits(name, TaskSpec(kind=named or "classification", **paths), folder)
        guesses[name] = found = guess(
            splits.train, named, columns if of_target else None, encoder_decoder=bool(config.is_encoder_decoder)
        )
        spec = TaskSpec(**found.to_spec(), **paths)
        noticed[name] = list(notice(spec, _rows_of(splits)))
        try:
            read.append(Task.read(name, spec, folder))
        except TaskError as error:
            refused = refused or error
            continue
        fields = {**found.to_spec(), **paths}
        labels = read[-1].labels
        odd = bool(labels) and uneven(spec, splits.train)
        tasks.append(FirstTask(name, fields, found.why, len(splits.train), splits.dev is None, labels, odd))
    try:
        if refused is not None:
            raise refused
        length, said = _lengths(read, base, folder, config)
    except TaskError as error:
        return FirstLook("", guesses, noticed, "", error)
    text = first_recipe(base, tasks, target, length, said)
    check_before(Recipe.parse(text), where)
    return FirstLook(text, guesses, noticed, said, None)


def _rows_of(splits: Splits) -> dict[str, Any]:
    named = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    return {split: rows for split, rows in named.items() if rows is not None}


def _from(folder: Path, path: str | Path) -> str:
    """A path relative to the recipe's folder, where there is one."""
    whole = Path(path).expanduser().absolute()
    try:
        return Path(os.path.relpath(whole, folder.absolute())).as_posix()
    except ValueError:  # on another drive
        return str(whole)


def _config(where: str) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(where, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise RecipeError(
            f"base: {where!r} cannot be read: {str(error).strip().splitlines()[0]} (give a folder with a config.json, an installed "
            "package with a model in it, or a name on the Hub)"
        ) from error


def _lengths(tasks: list[Task], base: str, folder: Path, config: Any) -> tuple[int, str]:
    """The most tokens of a row that a recipe should say, and why."""
    counted = [task for task in tasks if task.kind.cuts and task.kind.processor == "tokenizer"]
    if not counted:
        return _USUAL, "the most tokens of a text"
    processor = load_processor(BaseTable(model=base), {kinds[task.spec.kind] for task in tasks}, folder)
    numbers = sorted(
        length
        for task in counted
        for length in task.lengths(task.features(draw(task.train, _ENCODED), processor, train=True))
    )
    nearly_all, most = numbers[max(0, -(-99 * len(numbers) // 100) - 1)], numbers[-1]
    least = _WRITTEN if any(task.kind.generates for task in counted) else _SHORTEST
    wanted = max(least, -(-nearly_all // 8) * 8)
    positions = getattr(config, "max_position_embeddings", None) or _ENDLESS
    own = getattr(processor, "model_max_length", None) or _ENDLESS
    limits = [int(own)] * (own < _ENDLESS) + [positions - 8] * (positions > _SHORTEST)
    chosen = min([wanted, *limits])
    cut = sum(length > chosen for length in numbers)
    lost = (
        f"; {cut} of {len(numbers)} rows looked at are cut off, which this base reads no further"
        if chosen < wanted
        else ""
    )
    return chosen, f"99 % of the train rows have {nearly_all} tokens or fewer, the longest {most}{lost}"
