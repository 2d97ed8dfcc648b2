"""The three formats of folders: ours, peft's and that of AdapterHub's library; told apart, read and written."""

from __future__ import annotations

from pathlib import Path

from graftwork.attach import Handle
from graftwork.checkpoint.adapterhub import is_adapterhub_folder, load_adapterhub, save_adapterhub
from graftwork.checkpoint.json_files import MANIFEST
from graftwork.checkpoint.loading import load
from graftwork.checkpoint.peft_files import is_peft_folder, load_peft, save_peft
from graftwork.checkpoint.saving import save
from graftwork.checkpoint.staging import LoadOptions
from graftwork.compose import Composition
from graftwork.errors import ConfigError

FORMATS = ("graftwork", "adapterhub", "peft")


def format_of(folder: Path) -> str | None:
    """The format of a folder, one of `FORMATS`; ``None`` where it holds no adapter.

    Raises:
        CheckpointError: If the file that tells two formats apart is damaged.
        OSError: If it cannot be read.
    """
    if (folder / MANIFEST).is_file():
        return "graftwork"
    if is_adapterhub_folder(folder):
        return "adapterhub"
    return "peft" if is_peft_folder(folder) else None


def load_folder(handle: Handle, folder: Path, name: str | None, options: LoadOptions) -> Composition:
    """Add what a folder of any format holds; see `graftwork.Adapters.load`."""
    found = format_of(folder)
    if found == "adapterhub":
        return load_adapterhub(handle, folder, name, head=options.head)
    if found == "peft":
        return load_peft(handle, folder, name, head=options.head)
    return load(handle, folder, name, options)


def save_folder(handle: Handle, what: Composition, folder: Path, *, members: bool, format: str) -> Path:
    """Write an adapter, a fusion or a composition in a format; see `graftwork.Adapters.save`."""
    if format == "peft" and isinstance(what, str):
        return save_peft(handle, what, folder)
    if format == "adapterhub" and what is not None:
        return save_adapterhub(handle, what, folder)
    if format != "graftwork":
        raise ConfigError(
            f"save({what!r}): format is {format!r}; give 'graftwork', 'adapterhub', or 'peft' for one adapter"
        )
    return save(handle, what, folder, members=members)
