"""Attaching to a model: hooks on plain modules, the registry of adapters, what is active and what learns."""

from graftwork.attach.attaching import attach_to, base_prefix, handle_of
from graftwork.attach.handle import Handle
from graftwork.attach.heads import Labels

__all__ = ["Handle", "Labels", "attach_to", "base_prefix", "handle_of"]
