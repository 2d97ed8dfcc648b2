"""Keys and values as the text of a TOML file, which Python can only read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from graftwork.errors import RecipeError


def toml_key(name: str) -> str:
    """A key, in quotes where it needs them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def toml_value(value: Any, path: Sequence[str] = ()) -> str:
    """A value; a table is written in line.

    Args:
        value: A truth value, a number, a text, or a list or dict of them.
        path: The keys that lead to it, for the error.

    Raises:
        RecipeError: If it is none that TOML has.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml_value(one, path) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml_key(name)} = {toml_value(one, path)}' for name, one in value.items())}}}"
    raise RecipeError(f"{'.'.join(path)} is {value!r}, which no TOML file can have; leave it out of the recipe")


def _text(text: str) -> str:
    """Strings of JSON are strings of TOML, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
