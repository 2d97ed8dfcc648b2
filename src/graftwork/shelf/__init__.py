"""Folders with adapters: what they hold, whether they fit and are whole, in which format they are, and where they are found."""

from graftwork.shelf.bases import auto_class, load_model
from graftwork.shelf.converting import Converted, convert, require_convertible
from graftwork.shelf.fitting import misfit
from graftwork.shelf.inspecting import inspect
from graftwork.shelf.records import BaseInfo, FolderInfo, HeadInfo, History
from graftwork.shelf.shelf import Shelf
from graftwork.shelf.verifying import Verified, verify

__all__ = [
    "BaseInfo",
    "Converted",
    "FolderInfo",
    "HeadInfo",
    "History",
    "Shelf",
    "Verified",
    "auto_class",
    "convert",
    "inspect",
    "load_model",
    "misfit",
    "require_convertible",
    "verify",
]
