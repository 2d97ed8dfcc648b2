"""Attaching to a model: hooks on plain modules, the registry of adapters, what is active and what learns."""

from graftwork.attach.attaching import attach_to, base_prefix, handle_of
from graftwork.attach.extra_losses import added_apart
from graftwork.attach.handle import Handle
from graftwork.attach.headed import Headed
from graftwork.attach.heads import Labels
from graftwork.attach.merging import Alike, Merged
from graftwork.attach.named_heads import OwnHead
from graftwork.attach.pruning import Pruned, mean_attention

__all__ = [
    "Alike",
    "Handle",
    "Headed",
    "Labels",
    "Merged",
    "OwnHead",
    "Pruned",
    "added_apart",
    "attach_to",
    "base_prefix",
    "handle_of",
    "mean_attention",
]
