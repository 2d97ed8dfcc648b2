"""Libraries that only some tasks need, imported when a task needs them."""

from __future__ import annotations

import importlib
from typing import Any

from graftwork.errors import TaskError


def needed(module: str, what: str) -> Any:
    """Import a module of the extra ``tasks``, or name what needs it in a `TaskError`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TaskError(f"{what} needs {module.split('.')[0]} ({error}): pip install 'graftwork[tasks]'") from error
