"""What pydantic finds wrong, as sentences that name the key, what it may be, and the way out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from graftwork.options import hint


def key_of(location: tuple[int | str, ...]) -> str:
    """The key of a place in a recipe, with dots."""
    return ".".join(str(part) for part in location) or "(the whole)"


def message_of(error: Any, model: type[BaseModel], tables: Mapping[str, type[BaseModel]] | None = None) -> str:
    """What is wrong, and the way out.

    Args:
        error: One of pydantic's errors.
        model: The model that was validated.
        tables: For a whole recipe, the tables that a misplaced key may belong to.
    """
    given = error["input"]
    if error["type"] == "extra_forbidden":
        return f"this key is not known; {_way_out(error['loc'], model, tables)}"
    if error["type"] == "missing":
        return "this key has to be given"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "literal_error":
        near = hint(given, re.findall("'([^']*)'", error["ctx"]["expected"]))
        message += f"; {near}" if near else ""
    return message if isinstance(given, (dict, list, BaseModel)) else f"{message} (it is {given!r:.200})"


def _way_out(
    location: tuple[int | str, ...], model: type[BaseModel], tables: Mapping[str, type[BaseModel]] | None
) -> str:
    """Which key may be meant by an unknown one: one of another table, a similar one of this, or any of this."""
    key = str(location[-1])
    if tables is not None:
        there = [f"[{table}]" for table, known in tables.items() if key in known.model_fields]
        if key in model.model_fields:
            return f"{key} stands at the top of the recipe, above every table"
        if there:
            return f"it is a key of {' and of '.join(there)}"
    at: Any = model
    for part in location[:-1]:
        at = get_args(at)[1] if get_origin(at) is dict else at.model_fields[str(part)].annotation
    keys = list(at.model_fields)
    return hint(key, keys) or f"there is {', '.join(keys[:20])}{', ...' if len(keys) > 20 else ''}"
