"""Attaching to a model: hooks on plain modules, the registry of adapters, what is active and what learns."""

from graftwork.attach.attaching import attach_to, base_prefix, handle_of
from graftwork.attach.handle import Handle
from graftwork.attach.merging import Alike, Merged
from graftwork.attach.named_heads import OwnHead
from graftwork.attach.pruning import Pruned, mean_attention
from graftwork.forward.extra_losses import added_apart
from graftwork.forward.heads_in_use import Labels
from graftwork.forward.model_with_heads import ModelWithHeads

__all__ = [
    "Alike",
    "Handle",
    "Labels",
    "Merged",
    "ModelWithHeads",
    "OwnHead",
    "Pruned",
    "added_apart",
    "attach_to",
    "base_prefix",
    "handle_of",
    "mean_attention",
]
