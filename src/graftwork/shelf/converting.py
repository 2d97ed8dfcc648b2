"""From one format of folders to another: loaded, written, read back, and put in place only if its outputs are the same."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from graftwork.checkpoint import FORMATS, LoadOptions, load_folder, save_folder
from graftwork.compose import Composition
from graftwork.errors import CheckpointError, ConfigError
from graftwork.options import nearest
from graftwork.shelf.loading import attached, load_pool, load_with_pool
from graftwork.shelf.records import FolderInfo
from graftwork.shelf.trial import TOLERANCE, difference, outputs

KINDS = ("adapter", "fusion", "composition")


@dataclasses.dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        folder: The new folder.
        what: The name or the composition in it.
        difference: The largest difference of the outputs on a small fixed input, before and after.
    """

    folder: Path
    what: Composition
    difference: float


def require_convertible(found: FolderInfo, target: Path, format: str) -> None:
    """Refuse what cannot be converted, before a base is loaded.

    Raises:
        ConfigError: If there is no such format.
        CheckpointError: If the folder holds something else than an adapter, a fusion or a composition, or the new one is there.
    """
    if format not in FORMATS:
        raise ConfigError(f"the format {format!r} is not known; {nearest(format, FORMATS)}")
    if found.kind not in KINDS:
        what = {"base": "the difference of a base", "run": "a run"}.get(found.kind, f"a {found.kind}")
        raise CheckpointError(
            f"{found.folder} holds {what}; only adapters, fusions and compositions are in several formats"
            + ("; give one of its folders, which `graftwork list` shows" if found.kind == "run" else "")
        )
    if found.kind != "adapter" and format == "peft":
        raise CheckpointError(
            f"{found.folder} holds a {found.kind}, and peft's files have one adapter; convert its parts"
        )
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise CheckpointError(f"{target} is there already, and nothing is written over it; give a new folder")


def convert(
    found: FolderInfo, target: Path, format: str, model: nn.Module, *, pool: Sequence[Path] = (), heads: bool = True
) -> Converted:
    """Write what a folder holds in another format; the new folder is there only if its outputs on a model are the same.

    Args:
        found: The folder, from `inspect`.
        target: The new folder.
        format: One of `graftwork.checkpoint.FORMATS`.
        model: The base that it was trained on, with nothing attached.
        pool: For a fusion the folders of the adapters in its pool, where they are not in its own.
        heads: Whether heads are converted too.

    Raises:
        CheckpointError: If it does not fit the model, has no counterpart in that format, or its outputs would be others;
            nothing is written then.
    """
    require_convertible(found, target, format)
    options = LoadOptions(None if heads else False, other_base=False, other_members=False)
    with attached(model) as handle:
        load_pool(handle, pool, options)
        before = set(handle.parts)
        what = load_with_pool(handle, found, options)
        expected = outputs(handle, what)

        def compared(folder: Path) -> float:
            """Read what was written in the place of what it was made of, and give the difference of their outputs."""
            for name in [name for name in reversed(handle.parts) if name not in before]:
                handle.remove(name)
            again = load_folder(handle, folder, what if isinstance(what, str) else None, options)
            return difference(expected, outputs(handle, again))

        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as aside:
                folder = Path(aside) / target.name
                save_folder(handle, what, folder, members=not isinstance(what, str), format=format)
                largest = compared(folder)
                if not largest <= TOLERANCE:
                    raise CheckpointError(
                        f"{found.folder} is not converted: in the format {format!r} its outputs would differ "
                        f"({_said(largest)}); nothing is written"
                    )
                folder.rename(target)
        except OSError as error:
            raise CheckpointError(f"{target} cannot be written: {error.strerror or error}") from error
    return Converted(target, what, largest)


def _said(value: float) -> str:
    if value == float("inf"):
        return "their shapes are others: a head is missing, which that format or this model does not have; --no-heads leaves it out"
    return f"by up to {value:.1e}"
