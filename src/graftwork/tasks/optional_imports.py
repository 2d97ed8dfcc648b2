"""Libraries that only some tasks need: imported when they are, with the way out where they are not there."""

from __future__ import annotations

import importlib
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
