"""A folder loaded on a model, after the adapters that a fusion in it needs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from graftwork.attach import Handle
from graftwork.checkpoint import LoadOptions, load_folder
from graftwork.compose import Composition
from graftwork.errors import CheckpointError, UnknownNameError
from graftwork.shelf.records import FolderInfo


def load_pool(handle: Handle, folders: Iterable[Path], options: LoadOptions) -> None:
    """Load the adapters of a fusion's pool, each under its own name."""
    for folder in folders:
        load_folder(handle, folder, None, options)


def load_with_pool(handle: Handle, found: FolderInfo, options: LoadOptions) -> Composition:
    """Load what a folder holds.

    Raises:
        CheckpointError: If it does not fit, or needs adapters that are not on the model.
    """
    try:
        return load_folder(handle, found.folder, None, options)
    except UnknownNameError as error:
        raise CheckpointError(f"{error}; here: give the folder of each, --with FOLDER") from error
