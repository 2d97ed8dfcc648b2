"""The recipe: base, adapter, tasks, targets, seeds and budget of a whole run, in one TOML file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, model_validator

from graftwork.errors import RecipeError
from graftwork.experiments.planning.budget import Budget
from graftwork.experiments.planning.recipe_checks import check_recipe
from graftwork.experiments.planning.recipe_tables import RecipeTables
from graftwork.experiments.planning.tables import BaseTable, TrackingTable
from graftwork.experiments.planning.validation_messages import key_of, message_of
from graftwork.tasks import TaskSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The tables that a key in the wrong place of a recipe may belong to.
_TABLES: dict[str, type[BaseModel]] = {
    "base": BaseTable,
    "tasks.NAME": TaskSpec,
    "training": Budget,
    "tracking": TrackingTable,
}


class Recipe(RecipeTables):
    """A whole run, as `Recipe.read` reads it. Its attributes are those of `RecipeTables`, and go together."""

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """A recipe from its file.

        Raises:
            RecipeError: Naming the file and the key that is wrong, and what it may be.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"the recipe {path} cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
        except ValueError as error:  # a path that no system has
            raise RecipeError(f"the recipe {str(path)!r} cannot be read: {error}") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, where: str = "the recipe") -> Recipe:
        """A recipe from the text of its file.

        Raises:
            RecipeError: Naming the key that is wrong, and what it may be.
        """
        try:
            return cls.make(tomllib.loads(text), where)
        except (ValueError, RecursionError) as error:
            if isinstance(error, RecipeError):
                raise
            raise RecipeError(f"{where} is no TOML: {error}") from error

    @classmethod
    def make(cls, data: Any, where: str = "the recipe") -> Recipe:
        """A recipe from its tables.

        Raises:
            RecipeError: Naming the key that is wrong, and what it may be.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            lines = [f"  {key_of(e['loc'])}: {message_of(e, cls, _TABLES)}" for e in error.errors()]
            raise RecipeError("\n".join([f"{where} has {len(lines)} mistake(s):", *lines])) from error

    @model_validator(mode="after")
    def _together(self) -> Recipe:
        check_recipe(self)
        return self
