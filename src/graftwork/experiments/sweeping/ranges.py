"""What a sweep goes through: keys of a recipe, each with some values or a range, checked by the recipe itself."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graftwork.errors import ConfigError, RecipeError
from graftwork.experiments.planning.recipe import Recipe
from graftwork.options import nearest

Value = bool | int | float | str
_RANGE = re.compile(r"([^,]+?)\.\.([^,]+?)(:log)?")
_NAMED = ("tasks", "languages", "knowledge", "methods")  # tables of a recipe whose keys are names
_FORMS = "give values (4,16,64), or a range (1e-4..1e-2, on a logarithmic scale with :log)"


@dataclasses.dataclass(frozen=True)
class Range:
    """The values of one key.

    Attributes:
        key: The key, with the tables that it is in: ``training.learning_rate``.
        choices: The values to choose among; empty for a range of numbers.
        low: The lowest number of a range.
        high: The highest; both are whole for a range of whole numbers.
        log: Whether a range is drawn on a logarithmic scale.
    """

    key: str
    choices: tuple[Value, ...] = ()
    low: int | float = 0
    high: int | float = 0
    log: bool = False

    @classmethod
    def read(cls, key: str, given: str | Sequence[Value]) -> Range:
        """A range from ``4,16,64``, ``1e-4..1e-2:log`` or ``2..8``, or from a list of values.

        Raises:
            ConfigError: If it is none of these.
        """
        found = _RANGE.fullmatch(given.strip()) if isinstance(given, str) else None
        low, high = (_value(found[1]), _value(found[2])) if found else ("", "")
        if found and all(type(one) in (int, float) for one in (low, high)):
            assert not isinstance(low, str) and not isinstance(high, str)
            if not low < high or not math.isfinite(high - low) or (found[3] and low <= 0):
                above = ", and above 0 for :log" if found[3] else ""
                raise ConfigError(f"over {key}: {given!r} must go from a lower number to a higher one{above}")
            return cls(key, (), low, high, bool(found[3]))
        values = [_value(one) for one in given.split(",")] if isinstance(given, str) else [*given]
        usable = all(isinstance(one, (bool, int, float, str)) and one != "" for one in values)
        if not usable or len({*map(repr, values)}) < max(len(values), 2):
            raise ConfigError(f"over {key}: {given!r} is not two different values or more; {_FORMS}")
        return cls(key, tuple(values))

    def suggest(self, trial: Any) -> Value:
        """The value of a trial of Optuna, drawn by it where it has none yet."""
        value: Value
        if self.choices:
            value = trial.suggest_categorical(self.key, self.choices)
        elif isinstance(self.low, int) and isinstance(self.high, int):
            value = trial.suggest_int(self.key, self.low, self.high, log=self.log)
        else:
            value = trial.suggest_float(self.key, self.low, self.high, log=self.log)
        return value

    @property
    def ends(self) -> tuple[Value, ...]:
        """Every value of a choice, and the lowest and highest of a range."""
        return self.choices or (self.low, self.high)


def read_ranges(over: Mapping[str, str | Sequence[Value]]) -> list[Range]:
    """The ranges of some keys of a recipe.

    Raises:
        ConfigError: If one cannot be read, or there is none.
    """
    if not over:
        raise ConfigError(f"there is nothing to sweep over; name a key of the recipe and its values: {_FORMS}")
    return [Range.read(key, given) for key, given in over.items()]


def variants(recipe: Recipe, ranges: Sequence[Range]) -> Iterator[Recipe]:
    """The recipe with each value of a choice and both ends of a range, the other keys at their first value.

    Raises:
        RecipeError: If the recipe has no such key, or refuses a value.
    """
    first = {one.key: one.ends[0] for one in ranges}
    for one in ranges:
        for value in one.ends:
            yield with_values(recipe, {**first, one.key: value})


def with_values(recipe: Recipe, values: Mapping[str, Value]) -> Recipe:
    """A recipe with other values.

    Raises:
        RecipeError: If it has no such key, or refuses a value.
    """
    tables = copy.deepcopy(recipe.model_dump(mode="json", exclude_unset=True))
    for key, value in values.items():
        table, *rest = key.split(".")
        names = getattr(recipe, table) if table in _NAMED else {}
        if table in _NAMED and (not rest or rest[0] not in names):
            near = nearest(rest[0], names) if rest and names else f"there is {', '.join(names) or 'none'}"
            raise RecipeError(f"over {key}: the recipe has no such [{table}.NAME]; {near}")
        *path, last = table, *rest
        at = tables
        for part in path:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise RecipeError(f"over {key}: {part} is a value of the recipe, no table")
        at[last] = value
    said = ", ".join(f"{key} = {value!r}" for key, value in values.items())
    return Recipe.make(tables, f"the recipe with {said}")


def _value(text: str) -> Value:
    """A word of the command line as a value of a recipe: a number, true or false, or a text."""
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            found = kind(text)
        except ValueError:
            continue
        if math.isfinite(found):
            return found
    return text
