"""Data sets of the library `datasets`: from the Hub, and as the splits of a task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.errors import TaskError
from graftwork.options import needed
from graftwork.tasks.reading.arrow import rows_of
from graftwork.tasks.spec import TaskSpec

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
# the names of the splits on the Hub
_SPLITS = {
    "train": ("train", ""),
    "dev": ("dev", "validation", "valid", "val", "validation_matched"),
    "test": ("test",),
}


def hub_names(data: str) -> list[tuple[str, str | None]]:
    """The data sets that a text may name, each with a configuration: in ``"glue/rte"``, glue is an owner or a data set."""
    parts = data.split("/")
    if not all(map(_NAME.fullmatch, parts)):
        return []
    match parts:
        case [_]:
            return [(data, None)]
        case [first, second]:
            return [(data, None), (first, second)]
        case [owner, name, configuration]:
            return [(f"{owner}/{name}", configuration)]
    return []


def from_hub(name: str, spec: TaskSpec, folder: Path) -> dict[str, Any]:
    """The splits of the data set of the Hub that ``spec.data`` names, as `splits_of` gives them."""
    assert spec.data is not None
    datasets = needed("datasets", f"task {name!r}: data = {spec.data!r}, which is no folder ({folder}),")
    failures = []
    for path, configuration in hub_names(spec.data):
        try:
            return splits_of(datasets.load_dataset(path, configuration), spec)
        # anything may fail: not found, no network, no access, a script that is no longer run
        except Exception as error:
            dataset = path if configuration is None else f"{path}, configuration {configuration}"
            failures.append(f"as the data set {dataset}: {str(error).strip() or type(error).__name__}")
    raise TaskError(
        f"task {name!r}: data = {spec.data!r} is no folder ({folder}), and the Hub gives nothing: {'; '.join(failures)}. "
        "Give the folder of the data, or a data set's name while online (or once cached)"
    )


def splits_of(loaded: Mapping[str, Any], spec: TaskSpec, folder: Path | None = None) -> dict[str, Any]:
    """The splits of a task from data sets by name, and the labels' names (``None`` where the data sets have none).

    A data set without a name is for training; ``folder`` is that of data sets that were saved to disk.
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
