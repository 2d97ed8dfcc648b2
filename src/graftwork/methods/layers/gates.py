"""A learned gate on what a method adds (Mao et al. 2021, *UniPELT*, arXiv:2110.07577).

    G(h) = mean over the positions that are not padding of sigmoid(w · h + b)        one number a row

In a decoder, where a position must not see later ones, each position has a gate of its own. The authors' code takes the
mean over padding too, so that a row's gate depends on the other rows of its batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graftwork.methods.layers.contract import cast


def gate_values(read: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``sigmoid(w · h + b)`` of each position, ``(…, width)`` to ``(…, 1)``."""
    return torch.sigmoid(nn.functional.linear(read, cast(weight, read), cast(bias, read)))


def mean_of_unpadded(gate: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over all positions ``(batch, …, 1)`` that are not padding, as ``(batch, 1, …, 1)``."""
    positions = tuple(range(1, gate.dim() - 1))
    if not positions:
        return gate
    if mask is None:
        return gate.mean(dim=positions, keepdim=True)
    weights = mask.to(gate.dtype).unsqueeze(-1)
    return (gate * weights).sum(dim=positions, keepdim=True) / weights.sum(dim=positions, keepdim=True).clamp(min=1)


class Gate(nn.Module):
    """w ``(1, width)`` from N(0, 0.02) and b from zero.

    Attributes:
        causal: Whether it is in a decoder, so that each position has its own.
    """

    def __init__(self, width: int, *, causal: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, width, dtype=dtype) * 0.02)
        self.bias = nn.Parameter(torch.zeros(1, dtype=dtype))
        self.causal = causal

    def forward(self, read: Tensor, mask: Tensor | None) -> Tensor:
        """The gate ``(batch, positions or 1, 1)`` for a read ``(batch, positions, width)``, given its padding mask."""
        weight, bias = self.weight.to(read.device), self.bias.to(read.device)
        values = gate_values(read, weight, bias)
        return values if self.causal else mean_of_unpadded(values, mask)
