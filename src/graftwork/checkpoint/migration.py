"""The formats of a manifest: which of them are read, and how the fields of an older one become those of the newest."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graftwork.errors import CheckpointError

FORMAT = 2
Fields = dict[str, Any]


def _with_its_hash(fields: Fields) -> Fields:
    """From 1 to 2: the fields are the same. A manifest of format 1 may lack the hash of itself, one of format 2 may not."""
    return fields


# From each older format to the next one.
_STEPS: Mapping[int, Callable[[Fields], Fields]] = {1: _with_its_hash}
WITHOUT_HASH = (1,)  # the formats whose manifests may lack the hash of themselves


def refuse_unknown_format(fields: Mapping[str, Any], path: Path) -> None:
    """Refuse a manifest of a format that is not known here; one whose format is no number is left to the checks of fields.

    Raises:
        CheckpointError: If the format is newer, or none that there ever was.
    """
    number = fields.get("format")
    if type(number) is not int or number == FORMAT or number in _STEPS:
        return
    by = fields.get("graftwork")
    by = f"graftwork {by}" if isinstance(by, str) and len(by) <= 30 else "another version"
    way_out = (
        f"read it with {by} or newer (pip install -U graftwork)"
        if number > FORMAT
        else "copy the folder again, or save it anew"
    )
    raise CheckpointError(
        f"{path} has the format {reprlib.repr(number)}, written by {by}; this graftwork reads the formats {min(_STEPS)} to "
        f"{FORMAT}: {way_out}"
    )


def as_newest(fields: Fields) -> Fields:
    """The fields of a manifest as the newest format has them; those of a format that is not known are left as they are."""
    number = fields.get("format")
    while type(number) is int and number in _STEPS:
        fields = {**_STEPS[number](fields), "format": number + 1}
        number += 1
    return fields
