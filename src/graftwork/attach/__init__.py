"""Attaching to a model: its hooks, the registry of its adapters, what is active and what is trained."""

from graftwork.attach.attaching import attach_to, handle_of
from graftwork.attach.handle import Handle
from graftwork.attach.merging import Merged
from graftwork.attach.named_heads import OwnHead
from graftwork.attach.pruning import Pruned, mean_attention
from graftwork.forward.extra_losses import added_apart
from graftwork.forward.heads_in_use import Labels
from graftwork.forward.model_with_heads import ModelWithHeads

__all__ = [
    "Handle",
    "Labels",
    "Merged",
    "ModelWithHeads",
    "OwnHead",
    "Pruned",
    "added_apart",
    "attach_to",
    "handle_of",
    "mean_attention",
]
