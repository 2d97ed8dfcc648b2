"""What configurations share: checks whose errors name the option, its value and the allowed values, and values as JSON has them."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import torch

from graftwork.errors import ConfigError, TaskError


class Options:
    """Base class of configurations with keyword options: an unknown option is refused with the nearest known one."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """Refuse an unknown option before ``__init__`` raises a TypeError for it."""
        if args:
            given = ", ".join(map(repr, args))
            raise ConfigError(f"{cls.__name__}({given}): options are given by name, as option=value")
        refuse_unknown(cls, options)
        return super().__new__(cls)


def refuse_unknown(cls: type[Any], options: Iterable[str]) -> None:
    """Raise a `ConfigError` for an option that a configuration does not have."""
    known = [f.name for f in dataclasses.fields(cls)]
    for option in options:
        if option not in known:
            near = hint(option, known) or f"it has {', '.join(known)}"
            raise ConfigError(f"{cls.__name__} has no option {option!r}; {near}")


def one_of(config: object, field: str, allowed: tuple[Any, ...]) -> None:
    """Raise a `ConfigError` for a value that is not in ``allowed``, naming the field and the choices."""
    value = getattr(config, field)
    if value not in allowed:
        choices = ", ".join(repr(a) for a in allowed)
        raise ConfigError(f"{type(config).__name__}: {field} is {value!r}; it must be one of {choices}")


def within(config: object, field: str, low: float, high: float = math.inf, *, whole: bool = False) -> None:
    """Raise a `ConfigError` for a value that is not a finite (or whole) number from ``low`` to ``high``."""
    value = getattr(config, field)
    if not is_number(value) or not low <= value <= high or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        bounds = f"from {low} to {high}" if high < math.inf else f"of {low} or more"
        raise ConfigError(f"{type(config).__name__}: {field} is {value!r}; it must be {kind} {bounds}")


def flags(config: object, *fields: str) -> None:
    """Raise a `ConfigError` for a value that is neither ``True`` nor ``False``."""
    for field in fields:
        value = getattr(config, field)
        if not isinstance(value, bool):
            raise ConfigError(f"{type(config).__name__}: {field} is {value!r}; it must be True or False")


def floating(config: object, field: str) -> None:
    """Raise a `ConfigError` for a value that is not the name of a floating point dtype of torch."""
    value = getattr(config, field)
    dtype = getattr(torch, value, None) if isinstance(value, str) else None
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ConfigError(
            f"{type(config).__name__}: {field} is {value!r}; it must be the name of a floating point dtype of torch, "
            "such as 'float32'"
        )


def is_number(value: object) -> bool:
    """Whether a value is a finite number, and not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def nearest(name: object, known: Iterable[str]) -> str:
    """The way out for an unknown name, for a message: the nearest known name, or all known names."""
    names = list(known)
    return hint(name, names) or f"there is {', '.join(names)}"


def hint(name: object, known: Iterable[str]) -> str:
    """The nearest known name, as a question; empty where none is near.

    Near is a known name that is a part of the unknown one (``batch_size`` of ``per_device_train_batch_size``), one whose initials
    it is (``lr``), or one of similar spelling.
    """
    unknown, names = str(name), list(known)
    parts = [one for one in names if len(one) > 3 and one in unknown]
    short = [one for one in names if "_" in one and "".join(word[:1] for word in one.split("_")) == unknown]
    near = sorted(parts, key=len, reverse=True) or short or difflib.get_close_matches(unknown, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def needed(module: str, what: str) -> Any:
    """Import a module of the extra ``tasks``, or name what needs it in a `TaskError`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TaskError(f"{what} needs {module.split('.')[0]} ({error}): pip install 'graftwork[tasks]'") from error


def plain(value: Any) -> Any:
    """A value as JSON has it: sets as sorted lists, enumerations as their values."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return sorted((plain(v) for v in value), key=str)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    return value
