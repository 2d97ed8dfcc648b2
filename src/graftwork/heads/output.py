"""What a model with named heads gives. Apart from the heads, for it alone needs transformers, which takes long to import."""

from __future__ import annotations

import dataclasses

from torch import Tensor
from transformers.utils.generic import ModelOutput


@dataclasses.dataclass
class HeadOutput(ModelOutput):
    """What a model with named heads gives.

    Attributes:
        loss: A scalar, where labels were given.
        logits: The head's output; its shape is in each head's documentation. ``None`` where several heads ran.
        by_head: Where several heads ran, each one's own output.
        rows: The rows of the batch that this head ran on, ``None`` for all.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    by_head: dict[str, HeadOutput] | None = None
    rows: tuple[int, ...] | None = None
