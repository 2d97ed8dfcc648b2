"""A folder loaded on a model, after the adapters that a fusion in it needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import nn

from graftwork.attach import Handle
from graftwork.attach.attaching import attach_to
from graftwork.checkpoint import LoadOptions, load_folder
from graftwork.compose import Composition
from graftwork.errors import AttachError, CheckpointError, UnknownNameError
from graftwork.shelf.records import FolderInfo


@contextlib.contextmanager
def attached(model: nn.Module) -> Iterator[Handle]:
    """Attach to a model inside a ``with`` block.

    Raises:
        AttachError: If the model cannot be attached, or has adapters already.
    """
    handle = attach_to(model, Handle, None, None)
    if handle.parts:
        raise AttachError(f"the model has {handle.parts[0]!r} already; give one with nothing attached")
    try:
        yield handle
    finally:
        handle.detach()


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
