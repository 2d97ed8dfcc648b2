"""Attention inside an adapter, and its mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graftwork.errors import CompositionError
from graftwork.methods.layers.affine import Affine
from graftwork.methods.layers.contract import Context


class SelfAttention(nn.Module):
    """Multi-head self-attention: queries, keys and values with bias, and no output projection."""

    def __init__(self, width: int, heads: int, std: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads = heads
        self.query = Affine(width, width, std, dtype)
        self.key = Affine(width, width, std, dtype)
        self.value = Affine(width, width, std, dtype)

    def forward(self, values: Tensor, visible: Tensor | None, dropout: float = 0.0) -> Tensor:
        """``(batch, positions, width)`` to the same.

        Args:
            values: The input of queries, keys and values.
            visible: The mask, see `visible_positions`.
            dropout: Probability of leaving a position out.
        """
        query, key, value = (
            projected(values).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=visible, dropout_p=dropout)
        return mixed.transpose(1, 2).flatten(2)


def visible_positions(read: Tensor, context: Context, causal: bool) -> Tensor | None:
    """Which position (third dimension) sees which (fourth), ``(batch or 1, 1, positions, positions)``; ``None`` for all.

    Padding is visible to itself alone. Every position sees itself, so that a row of nothing but padding has a softmax.
    """
    mask, length = context.padding_mask(read), read.shape[1]
    if mask is None and not causal:
        return None
    every = torch.ones(length, length, dtype=torch.bool, device=read.device)
    seen = (every.tril() if causal else every)[None, None]
    if mask is not None:
        seen = seen & mask.to(read.device)[:, None, None, :] | torch.eye(length, dtype=torch.bool, device=read.device)
    return seen


def by_position(read: Tensor, owner: str) -> Tensor:
    """The read as ``(batch, positions, width)``; the positions of an image may be several dimensions.

    Raises:
        CompositionError: If there are no positions apart from the rows.
    """
    if read.dim() < 3:
        raise CompositionError(
            f"{owner} mixes positions, and at one of its sites the model has flattened them into its rows: {tuple(read.shape)}; "
            "leave that layer out"
        )
    return read.flatten(1, -2)
