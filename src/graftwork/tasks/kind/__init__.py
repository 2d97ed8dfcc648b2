"""The kinds of tasks, one file each: importing this registers them."""

from graftwork.tasks.kind import classification, multi_label, regression, tagging  # noqa: F401
from graftwork.tasks.kind.contract import Feature, Kind
from graftwork.tasks.kind.registry import find_kind, kinds, register

__all__ = ["Feature", "Kind", "find_kind", "kinds", "register"]
