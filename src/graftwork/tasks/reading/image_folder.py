"""Images in folders: ``train/LABEL/*.png`` are the rows of ``train``."""

from __future__ import annotations

from pathlib import Path

from graftwork.errors import TaskError
from graftwork.tasks.reading.paths import in_folder
from graftwork.tasks.rows import Place, Rows
from graftwork.tasks.spec import TaskSpec

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})


def images_in(folder: Path, spec: TaskSpec) -> Rows:
    """One row an image, its label the name of the folder that it is in, without one where it is in no folder.

    Raises:
        TaskError: If there are none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    if not paths:
        raise TaskError(f"{folder} has no images in folders named by their labels; {in_folder(folder)}")
    rows = []
    for path in paths:
        inside = path.relative_to(folder).parts
        row = {spec.image: str(path.resolve())}
        rows.append({**row, spec.label: inside[0]} if len(inside) > 1 else row)
    return Rows(rows, [Place(str(path)) for path in paths])
