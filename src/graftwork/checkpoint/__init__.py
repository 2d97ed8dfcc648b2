"""Files on disk: one folder an adapter, a fusion, a composition or the difference of a trained base.

A folder holds ``graftwork.json`` (how it was made, what it was trained on) and, for an adapter or a fusion,
``adapter.safetensors`` or ``fusion.safetensors``; a composition holds its parts in numbered folders under ``adapters``
and ``fusions``; the difference of a base holds ``base.safetensors``. Reading is strict and all or nothing; writing happens
aside and ends with a rename.
"""

from graftwork.checkpoint.base import load_base, save_base, unload_base
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.loading import load
from graftwork.checkpoint.progress import has_progress, restore_progress, save_progress
from graftwork.checkpoint.saving import save

__all__ = [
    "Fingerprint",
    "has_progress",
    "load",
    "load_base",
    "restore_progress",
    "save",
    "save_base",
    "save_progress",
    "unload_base",
]
