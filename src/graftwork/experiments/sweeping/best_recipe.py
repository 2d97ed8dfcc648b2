"""A recipe as a TOML file in another folder: its relative paths lead to the same places from there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.planning.toml_text import toml_key, toml_value

# The keys of a recipe that may be paths; a base or data that is not there is a name.
_PATHS = re.compile(
    r"base\.(model|tokenizer)|tasks\..+\.(data|train|dev|test|evaluate_in\..+)"
    r"|languages\..+\.(text|dev)|knowledge\..+\.triples|trained\..+"
)


def as_toml(recipe: Recipe, root: Path, folder: Path) -> str:
    """A recipe as TOML for a file in a folder.

    Args:
        recipe: The recipe.
        root: What its paths are relative to.
        folder: The folder of the file.

    Raises:
        RecipeError: If a value is none that TOML has.
    """
    tables = _moved(recipe.model_dump(mode="json", exclude_unset=True), root.resolve(), folder.resolve())
    return "\n".join(_lines(tables)) + "\n"


def _moved(value: Any, root: Path, folder: Path, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _moved(one, root, folder, f"{key}.{name}" if key else name) for name, one in value.items()}
    if isinstance(value, list):
        return [_moved(one, root, folder, key) for one in value]
    if not isinstance(value, str) or not _PATHS.fullmatch(key):
        return value
    path = Path(value).expanduser()
    return value if path.is_absolute() or not (root / path).exists() else os.path.relpath(root / path, folder)


def _lines(table: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """The lines of a table: its own keys, then the tables in it."""
    if path and (not table or not all(isinstance(value, dict) for value in table.values())):
        yield f"\n[{'.'.join(map(toml_key, path))}]"
    for name, value in table.items():
        if not isinstance(value, dict):
            yield f"{toml_key(name)} = {toml_value(value, (*path, name))}"
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _lines(value, (*path, name))
