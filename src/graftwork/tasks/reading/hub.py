"""Data sets of the library `datasets`: found on the Hub, and taken apart into the splits that a task has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.errors import TaskError
from graftwork.tasks.optional_imports import needed
from graftwork.tasks.reading.arrow import rows_of
from graftwork.tasks.spec import TaskSpec

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
# what the second split is called out there
_SPLITS = {
    "train": ("train", ""),
    "dev": ("dev", "validation", "valid", "val", "validation_matched"),
    "test": ("test",),
}


def hub_names(data: str) -> list[tuple[str, str | None]]:
    """The data sets that a text may mean, each with a configuration: ``"glue/rte"`` is an owner's, or one of glue's."""
    parts = data.split("/")
    if not all(_NAME.fullmatch(part) for part in parts):
        return []
    if len(parts) == 1:
        return [(data, None)]
    if len(parts) == 2:
        return [(data, None), (parts[0], parts[1])]
    return [("/".join(parts[:2]), parts[2])] if len(parts) == 3 else []


def from_hub(name: str, spec: TaskSpec, folder: Path) -> dict[str, Any]:
    """The splits of a data set, and its labels' names where it says them.

    Args:
        name: The task's, for messages.
        spec: Its ``data`` names the data set.
        folder: What ``data`` would be as a folder, for messages.

    Raises:
        TaskError: If `datasets` is not installed, or the data set is not there or cannot be reached.
    """
    assert spec.data is not None
    datasets = needed("datasets", f"task {name!r}: data = {spec.data!r}, which is no folder ({folder}),")
    failures = []
    for path, configuration in hub_names(spec.data):
        try:
            return splits_of(datasets.load_dataset(path, configuration), spec)
        # whatever goes wrong out there: not found, no network, no access, a script that is no longer run
        except Exception as error:
            asked = path if configuration is None else f"{path}, configuration {configuration}"
            failures.append(f"as the data set {asked}: {str(error).strip() or type(error).__name__}")
    raise TaskError(
        f"task {name!r}: data = {spec.data!r} is no folder ({folder}), and the Hub gives nothing: {'; '.join(failures)}. "
        "Give the folder of the data, or a data set's name while online (or once cached)"
    )


def splits_of(loaded: Mapping[str, Any], spec: TaskSpec, folder: Path | None = None) -> dict[str, Any]:
    """The splits that a task has of some data sets, and the labels' names (``None`` where they are not said).

    Args:
        loaded: The data sets by name; one without a name is learnt from.
        spec: The task.
        folder: Where they lie, if they were saved to disk.

    Raises:
        TaskError: If none is to be learnt from, or one cannot be read.
    """
    found: dict[str, Any] = {"labels": None}
    for split, names in _SPLITS.items():
        there = next((n for n in names if n in loaded), None)
        if there is not None:
            source = str(spec.data if folder is None else folder) + (f" ({there})" if there else "")
            found[split] = rows_of(loaded[there], source, folder)
            found["labels"] = found["labels"] or _names(loaded[there].features, spec)
    return found


def _names(features: Any, spec: TaskSpec) -> tuple[str, ...] | None:
    column = features.get(spec.tags if spec.kind == "tagging" else spec.label)
    # a list of labels has its names one level down
    names = getattr(column, "names", None) or getattr(getattr(column, "feature", None), "names", None)
    return tuple(names) if names else None
