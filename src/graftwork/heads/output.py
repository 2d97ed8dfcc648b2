"""The output of a model with named heads. A file of its own: it imports transformers, which takes long."""

from __future__ import annotations

import dataclasses

from torch import Tensor
from transformers.utils.generic import ModelOutput


@dataclasses.dataclass
class HeadOutput(ModelOutput):
    """The output of a model with named heads.

    Attributes:
        loss: A scalar, where labels were given.
        logits: The head's output; its shape is in each head's documentation. ``None`` where several heads ran.
        by_head: Each head's own output, where several heads ran.
        rows: The rows of the batch that this head ran on; ``None`` for all.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    by_head: dict[str, HeadOutput] | None = None
    rows: tuple[int, ...] | None = None
