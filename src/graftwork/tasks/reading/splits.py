"""The rows of a task: from single files, a folder, images in folders, or a data set saved to disk or of the Hub."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from graftwork.errors import TaskError
from graftwork.tasks.reading.arrow import read_saved, saved
from graftwork.tasks.reading.files import ENDINGS, read_rows
from graftwork.tasks.reading.hub import from_hub, hub_names, splits_of
from graftwork.tasks.reading.paths import in_folder, path_of
from graftwork.tasks.rows import Place, Row, Rows
from graftwork.tasks.spec import TaskSpec

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
_SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train",),
    "dev": ("dev", "validation", "valid", "val"),
    "test": ("test",),
}


@dataclasses.dataclass(frozen=True)
class Splits:
    """The rows of a task as they are read, before anything is held out.

    Attributes:
        train: The rows to train on.
        dev: ``None`` where there are none.
        test: ``None`` where there are none.
        labels: The labels' names, where the data has them.
    """

    train: Rows
    dev: Rows | None = None
    test: Rows | None = None
    labels: tuple[str, ...] | None = None


def read_splits(name: str, spec: TaskSpec, root: Path) -> Splits:
    """All rows of a task, whose relative paths start from a root.

    Raises:
        TaskError: If there are no rows to train on, or something cannot be read.
    """
    files = {"train": spec.train, "dev": spec.dev, "test": spec.test}
    found: dict[str, Any] = {}
    if spec.data is not None and not all(files.values()):
        found = _data(name, spec, root)
    for split, file in files.items():
        if file:
            path = path_of(file, root)
            found[split] = read_rows(path)
            # the labels' names may also be in the folder of a single file, or in a data set that was saved to disk
            if split == "train" and "labels" not in found:
                found["labels"] = (
                    splits_of(read_saved(path), spec, path)["labels"] if saved(path) else _meta(path.parent)
                )
    if "train" not in found:
        where = f"data = {spec.data!r} has no train rows" if spec.data else "neither data nor train is given"
        raise TaskError(f"task {name!r}: {where}; give a folder with a train file, or train = FILE")
    return Splits(**found)


def read_elsewhere(name: str, spec: TaskSpec, where: str, root: Path) -> Rows:
    """Rows that a task is only scored on: those of a file, else the test rows or the dev rows of a folder or data set."""
    path = path_of(where, root)
    if path.is_file():
        return read_rows(path)
    found = _data(name, spec.model_copy(update={"data": where}), root, train_needed=False)
    rows: Rows | None = found.get("test") or found.get("dev")
    if rows is None:
        raise TaskError(f"task {name!r}: evaluate_in has {where!r}, which has neither test nor dev rows; give a file")
    return rows


def _data(name: str, spec: TaskSpec, root: Path, train_needed: bool = True) -> dict[str, Any]:
    """The splits of ``data``, and ``"labels"``, the labels' names or ``None``."""
    assert spec.data is not None
    folder = path_of(spec.data, root)
    if saved(folder):
        return splits_of(read_saved(folder), spec, folder)
    if folder.is_dir():
        return _images(folder, spec) or _folder(folder, train_needed)
    if folder.exists():
        raise TaskError(f"task {name!r}: data = {spec.data!r} is a file; data is a folder, train = FILE a file")
    if not hub_names(spec.data):
        raise TaskError(f"task {name!r}: data = {spec.data!r} is not there; {in_folder(folder.parent)}")
    return from_hub(name, spec, folder)


def _folder(folder: Path, train_needed: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"labels": _meta(folder)}
    for split, names in _SPLITS.items():
        files = [folder / f"{n}{e}" for n in names for e in ENDINGS if (folder / f"{n}{e}").is_file()]
        if len(files) > 1:
            both = " and ".join(file.name for file in files)
            raise TaskError(f"{folder} has {both}, and one of them must be the {split} rows; give {split} = FILE")
        if files:
            found[split] = read_rows(files[0])
    if train_needed and "train" not in found:
        files_of = ", ".join(f"train{ending}" for ending in ENDINGS)
        raise TaskError(f"{folder} has no train file ({files_of}); {in_folder(folder)}")
    return found


def _images(folder: Path, spec: TaskSpec) -> dict[str, Any] | None:
    """Images in folders named by split and label, where there are no files of rows."""
    rows = any((folder / f"train{ending}").is_file() for ending in ENDINGS)
    if spec.kind != "image_classification" or rows or not (folder / "train").is_dir():
        return None
    folders = {split: [folder / n for n in names if (folder / n).is_dir()] for split, names in _SPLITS.items()}
    read = {split: _images_in(there[0], spec) for split, there in folders.items() if there}
    return {"labels": _meta(folder), **read}


def _images_in(folder: Path, spec: TaskSpec) -> Rows:
    """One row an image; its label is the name of the folder that it is in, and it has none where it is in no folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    if not paths:
        raise TaskError(f"{folder} has no images in folders named by their labels; {in_folder(folder)}")
    pairs: list[tuple[Row, Place]] = []
    for path in paths:
        row = {spec.image: str(path.resolve())}
        label, *inside = path.relative_to(folder).parts
        pairs.append(({**row, spec.label: label} if inside else row, Place(str(path))))
    return Rows.from_pairs(pairs)


def _meta(folder: Path) -> tuple[str, ...] | None:
    """The labels' names in ``meta.json``."""
    path = folder / "meta.json"
    if not path.is_file():
        return None
    try:
        labels = json.loads(path.read_text(encoding="utf-8")).get("labels")
    except (ValueError, AttributeError, RecursionError) as error:
        raise TaskError(f"{path} is not a JSON object in UTF-8 ({error}); mend it, or take it away") from error
    if labels is None:
        return None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise TaskError(f'{path}: labels is {labels!r}; it must be a list of names, as {{"labels": ["no", "yes"]}}')
    if len(set(labels)) < len(labels):
        raise TaskError(f"{path}: labels has a name twice; give each once")
    return tuple(labels)
