"""Files of JSON: read whole or refused, and the manifest of a folder with the hash of what it says."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.checkpoint.migration import WITHOUT_HASH, refuse_unknown_format
from graftwork.errors import CheckpointError

MANIFEST = "graftwork.json"
DIGEST = "digest"
LARGEST = 8 * 2**20  # bytes of a manifest: JSON takes twenty times as much when it is read
_DEEPEST = 100  # objects and lists inside one another


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the JSON of a folder that `save` wrote.

    Raises:
        CheckpointError: If `save` did not write the folder, the JSON is damaged or changed, or its format is newer.
    """
    path = folder / MANIFEST
    if not path.is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
        raise CheckpointError(f"{folder} has no {MANIFEST}, so `save` did not make it (it holds {found})")
    data = read_json(path)
    refuse_unknown_format(data, path)
    if DIGEST not in data and data.get("format") not in WITHOUT_HASH:
        raise CheckpointError(
            f"{path} is damaged: it lacks {DIGEST!r}, its hash; copy the folder again, or save it anew"
        )
    if DIGEST not in data:
        warnings.warn(
            f"{path} was written by a version that kept no hash of it, so that damage to it may not be seen; load it and save "
            "it again, which adds one",
            stacklevel=2,
        )
    elif data[DIGEST] != _digest_of(data):
        raise CheckpointError(
            f"{path} is damaged or was changed: its hash is not that of its content; copy the folder again, or save it anew"
        )
    return data


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file of JSON.

    Raises:
        CheckpointError: If the file is damaged, or larger than such a file can be.
    """
    if path.stat().st_size > LARGEST:
        raise CheckpointError(f"{path} has {path.stat().st_size:,d} bytes; no {path.name} is larger than {LARGEST:,d}")
    try:
        data = json.loads(path.read_bytes(), object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is damaged: it holds {type(data).__name__}, not an object")
    _refuse_deep(data, path)
    return data


def _refuse_deep(data: Any, path: Path) -> None:
    """Refuse values nested more deeply than any composition is, which would end in a `RecursionError` later."""
    level = [data]
    for _ in range(_DEEPEST):
        level = [
            v for one in level for v in (one.values() if isinstance(one, dict) else one) if isinstance(v, (dict, list))
        ]
        if not level:
            return
    raise CheckpointError(
        f"{path} is damaged: {path.name} is nested too deeply; copy the folder again, or save it anew"
    )


def dump(data: Mapping[str, Any]) -> bytes:
    """Return JSON values as the bytes of a manifest, with their hash added."""
    signed = {**data, DIGEST: _digest_of(data)}
    return (json.dumps(signed, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _digest_of(data: Mapping[str, Any]) -> str:
    """Return the hash of JSON values, which does not depend on their layout."""
    content = {key: value for key, value in data.items() if key != DIGEST}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it says {next(n for n in names if names.count(n) > 1)!r} twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"it says {constant}")
