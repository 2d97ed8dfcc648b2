"""Bottlenecks of which each position uses a few: two exact ways to compute ``Σ_i g_i (U_i φ(D_i h + b_i) + c_i)``.

1. *all*: the features of all experts in one product, times the gates (0 for most), and one product to read them out.
2. *the chosen ones alone*: positions are sorted by expert and laid out in blocks of rows, each block for one expert, so that
   the chosen experts are two batched products. The shapes alone bound the number of blocks, so that nothing waits for a device;
   at most one block an expert is empty rows.

The second moves each position's h and δ about k times, which the first does not; `chosen_pay` compares the two.
``python -m benchmarks.moe`` times both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from graftwork.methods.layers.activations import activation
from graftwork.methods.layers.contract import cast
from graftwork.methods.layers.top_k_gating import Gates

BLOCK = 32  # least number of rows
MOVING = 64  # the cost of moving one position, in features of a bottleneck


@dataclasses.dataclass(frozen=True)
class Experts:
    """The stacked weights of n bottlenecks of one shape, which read ``in`` features and add to ``out``.

    Attributes:
        down: The D_i ``(n, rank, in)``.
        bias: The b_i ``(n, rank)``, or ``None``.
        up: The U_i ``(n, out, rank)``.
        constant: The c_i ``(n, out)``, or ``None``.
        activation: The name of φ.
    """

    down: Tensor
    bias: Tensor | None
    up: Tensor
    constant: Tensor | None
    activation: str

    def features(self, raw: Tensor) -> Tensor:
        """φ."""
        return activation(self.activation)(raw)


def unchanged(features: Tensor) -> Tensor:
    """No dropout."""
    return features


def mixture(experts: Experts, read: Tensor, gates: Gates, perturb: Callable[[Tensor], Tensor] = unchanged) -> Tensor:
    """The mixture ``(…, out)`` for a read ``(…, in)``, computed the cheaper way; ``perturb`` is dropout on features."""
    count, rank, width = experts.down.shape
    positions = read.numel() // width
    # Where the number of positions is free, as in a program of `torch.export`, one way serves every number.
    known = isinstance(positions, int)
    way = chosen_alone if known and chosen_pay(positions, count, gates.chosen.shape[-1], rank) else all_of_them
    return way(experts, read, gates, perturb)


def chosen_pay(positions: int, experts: int, top_k: int, rank: int) -> bool:
    """Whether the chosen experts alone take less time than all, by a count of features.

    A row in a block costs about twice a row of one large product, and `MOVING` in addition.
    """
    rows = positions * top_k
    return (rows + experts * block_for(rows, experts)) * (2 * rank + MOVING) < positions * experts * rank


def all_of_them(
    experts: Experts, read: Tensor, gates: Gates, perturb: Callable[[Tensor], Tensor] = unchanged
) -> Tensor:
    """Every expert at every position, most of them times 0."""
    count, rank, _ = experts.down.shape
    bias = None if experts.bias is None else cast(experts.bias, read).flatten()
    raw = nn.functional.linear(read, cast(experts.down, read).flatten(0, 1), bias)
    features = perturb(experts.features(raw)).unflatten(-1, (count, rank))
    weights = gates.dense().to(features.dtype)
    mixed = (features * weights.unsqueeze(-1)).flatten(-2)
    delta = nn.functional.linear(mixed, cast(experts.up, mixed).transpose(0, 1).flatten(1))
    return delta if experts.constant is None else delta + weights @ cast(experts.constant, delta)


def chosen_alone(
    experts: Experts, read: Tensor, gates: Gates, perturb: Callable[[Tensor], Tensor] = unchanged
) -> Tensor:
    """The chosen experts, each at the positions that chose it."""
    width, top_k = read.shape[-1], gates.chosen.shape[-1]
    rows = read.reshape(-1, width)
    block = block_for(len(rows) * top_k, len(experts.down))
    places, owner = layout(gates.chosen.reshape(-1), len(experts.down), block)
    source = torch.arange(len(places), device=places.device) // top_k
    laid_out = rows.new_zeros(len(owner) * block, width).index_copy(0, places, rows.index_select(0, source))
    blocks = laid_out.unflatten(0, (len(owner), block))
    raw = blocks @ cast(experts.down, read).index_select(0, owner).transpose(1, 2)
    if experts.bias is not None:
        raw = raw + cast(experts.bias, read).index_select(0, owner).unsqueeze(1)
    features = perturb(experts.features(raw))
    out = features @ cast(experts.up, features).index_select(0, owner).transpose(1, 2)
    if experts.constant is not None:
        out = out + cast(experts.constant, out).index_select(0, owner).unsqueeze(1)
    chosen = out.flatten(0, 1).index_select(0, places).unflatten(0, (len(rows), top_k))
    values = gates.values.reshape(len(rows), 1, top_k).to(chosen.dtype)
    return (values @ chosen).reshape(*read.shape[:-1], out.shape[-1])


def block_for(rows: int, experts: int) -> int:
    """Number of rows of a block: more blocks read weights more often, larger ones have more empty rows."""
    return int(min(max(rows // (2 * experts), BLOCK), 8 * BLOCK))


def layout(expert: Tensor, experts: int, block: int) -> tuple[Tensor, Tensor]:
    """Each row's place ``(rows,)`` and each block's expert ``(blocks,)``, so that every block has rows of one expert.

    Args:
        expert: Each row's expert ``(rows,)``.
        experts: Number of experts.
        block: Number of rows of a block. Empty blocks have any expert.
    """
    device, rows = expert.device, len(expert)
    sorted_experts, order = expert.sort(stable=True)
    numbers = torch.arange(experts + 1, device=device)
    starts = torch.searchsorted(sorted_experts, numbers)
    blocks = (starts[1:] - starts[:-1] + block - 1) // block
    ends = blocks.cumsum(0)
    in_expert = torch.arange(rows, device=device) - starts[sorted_experts]
    sorted_places = (ends - blocks)[sorted_experts] * block + in_expert
    places = torch.empty_like(order).scatter(0, order, sorted_places)
    bound = rows // block + experts
    owner = torch.searchsorted(ends, torch.arange(bound, device=device), right=True).clamp(max=experts - 1)
    return places, owner
