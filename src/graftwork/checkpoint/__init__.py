"""Files on disk: one folder for each adapter, fusion, head, composition or difference of a trained base.

A folder has ``graftwork.json`` (the configuration, the base that it was trained on) and ``adapter.safetensors``,
``fusion.safetensors`` or ``head.safetensors``. A composition has its parts in numbered folders under ``adapters``, ``fusions`` and
``heads``; the difference of a base has ``base.safetensors``. Reading is strict, and all or nothing; a folder is written under
another name and then renamed.
"""

from graftwork.checkpoint.base_files import BaseFiles
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.formats import FORMATS, format_of, load_folder, save_folder
from graftwork.checkpoint.loading import load
from graftwork.checkpoint.progress import has_progress, restore_progress, save_progress
from graftwork.checkpoint.saving import save
from graftwork.checkpoint.staging import LoadOptions

__all__ = [
    "FORMATS",
    "BaseFiles",
    "Fingerprint",
    "LoadOptions",
    "format_of",
    "has_progress",
    "load",
    "load_folder",
    "restore_progress",
    "save",
    "save_folder",
    "save_progress",
]
