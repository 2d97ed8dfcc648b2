"""One way into every format of folder: ours, peft's, AdapterHub's."""

from __future__ import annotations

from pathlib import Path

from graftwork.attach import Handle
from graftwork.checkpoint.adapterhub import is_adapterhub_folder, load_adapterhub
from graftwork.checkpoint.folders import MANIFEST
from graftwork.checkpoint.loading import load
from graftwork.checkpoint.peft_files import is_peft_folder, load_peft
from graftwork.checkpoint.staging import LoadOptions
from graftwork.compose import Composition


def load_folder(handle: Handle, folder: Path, name: str | None, options: LoadOptions) -> Composition:
    """Add what a folder of any format holds; see `graftwork.Adapters.load`."""
    if not (folder / MANIFEST).is_file():
        if is_adapterhub_folder(folder):
            return load_adapterhub(handle, folder, name, head=options.head)
        if is_peft_folder(folder):
            return load_peft(handle, folder, name, head=options.head)
    return load(handle, folder, name, options)
