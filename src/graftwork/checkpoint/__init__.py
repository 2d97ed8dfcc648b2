"""Files on disk: one folder an adapter, a fusion or a composition.

A folder holds ``graftwork.json`` (how it was made, what it was trained on) and, for an adapter or a fusion,
``adapter.safetensors`` or ``fusion.safetensors``; a composition holds its parts in numbered folders under ``adapters``
and ``fusions``. Reading is strict and all or nothing; writing happens aside and ends with a rename.
"""

from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.loading import load
from graftwork.checkpoint.progress import has_progress, restore_progress, save_progress
from graftwork.checkpoint.saving import save

__all__ = ["Fingerprint", "has_progress", "load", "restore_progress", "save", "save_progress"]
