"""Libraries that only some tasks need: imported when they are, with the way out where they are not there."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

from graftwork.errors import TaskError


def needed(module: str, what: str) -> Any:
    """Import a module of the extra ``tasks``.

    Args:
        module: Its name.
        what: What needs it, for the message.

    Raises:
        TaskError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TaskError(f"{what} needs {module.split('.')[0]} ({error}): pip install 'graftwork[tasks]'") from error


def nearest(name: object, known: Iterable[str]) -> str:
    """The way out for a name that is not known: the nearest that is, or all of them."""
    names = list(known)
    return hint(name, names) or f"there is {', '.join(names)}"


def hint(name: object, known: Iterable[str]) -> str:
    """The nearest name that is known, as a question; empty where none is near.

    Near are a name that is a part of it (``batch_size`` of ``per_device_train_batch_size``), one that it abbreviates (``lr``),
    and one that is written much alike.
    """
    said, names = str(name), list(known)
    parts = [one for one in names if len(one) > 3 and one in said]
    short = [one for one in names if "_" in one and "".join(word[:1] for word in one.split("_")) == said]
    near = sorted(parts, key=len, reverse=True) or short or difflib.get_close_matches(said, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""
