"""Noisy top-k gating (Shazeer et al. 2017, *Outrageously Large Neural Networks*, arXiv:1701.06538).

    H(h) = W_g h + ε ⊙ σ(h),   σ(h) = softplus(W_noise h) + 1e-2,   ε ~ N(0, 1)       (noise in training only)
    g(h) = softmax over the k largest of H(h), 0 for the others

and two losses for an even use of the experts, over all positions that are not padding:

    importance_i = Σ_h g_i(h)          load_i = Σ_h Φ((W_g h − θ_i)_i / σ_i)          CV²(v) = variance(v) / mean(v)²

θ_i is what the i-th noisy value has to exceed to be chosen: the (k+1)-th largest where it is chosen, the k-th where it is not. The
variance is that of the population. Where all are chosen, or without noise, the load is a count and has no gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

MIN_SPREAD = 1e-2
_EPS = 1e-10


class Gates(NamedTuple):
    """The experts of each position and their gates.

    Attributes:
        chosen: The chosen experts' numbers, the largest gate first ``(…, k)``.
        values: Their gates ``(…, k)``, which add up to 1.
        ordered: All noisy values, the largest first ``(…, n)``.
        noisy: The noisy values ``(…, n)``.
        clean: The values without noise ``(…, n)``.
        spread: σ ``(…, n)``, ``None`` where there was no noise.
    """

    chosen: Tensor
    values: Tensor
    ordered: Tensor
    noisy: Tensor
    clean: Tensor
    spread: Tensor | None

    def dense(self) -> Tensor:
        """Return the gates of all experts ``(…, n)``, 0 where not chosen."""
        return torch.zeros_like(self.noisy).scatter(-1, self.chosen, self.values)


class NoisyGate(nn.Module):
    """W_g and W_noise ``(n, width)``; both start at zero.

    Attributes:
        noise: W_noise, ``None`` where the gate has no noise.
    """

    def __init__(self, experts: int, width: int, *, noise: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(experts, width, dtype=dtype))
        self.noise = nn.Parameter(torch.zeros(experts, width, dtype=dtype)) if noise else None

    def forward(self, read: Tensor, top_k: int, *, noisy: bool, rows: list[int] | None = None) -> Gates:
        """Return the gates for a read ``(…, width)``, computed in float32 or wider.

        Args:
            read: The input of the gate.
            top_k: Number of experts to choose.
            noisy: Whether there is noise.
            rows: Numbers of the experts to choose from, in order; ``None`` for all.
        """
        h = read.to(torch.promote_types(read.dtype, torch.float32))
        clean = nn.functional.linear(h, _rows(self.weight, rows).to(h.dtype))
        values, spread = clean, None
        if self.noise is not None:
            noise = _rows(self.noise, rows).to(h.dtype)
            if noisy:
                spread = nn.functional.softplus(nn.functional.linear(h, noise)) + MIN_SPREAD
                values = clean + torch.randn_like(clean) * spread
            elif torch.is_grad_enabled():  # data parallel training waits for every parameter's gradient
                values = clean + 0.0 * noise.sum()
        return best_of(values, top_k, clean, spread)


def best_of(values: Tensor, top_k: int, clean: Tensor | None = None, spread: Tensor | None = None) -> Gates:
    """The gates of the k largest values ``(…, n)``: a softmax over these."""
    # A stable sort and not topk: among equals the first is chosen, on every device and in every batch.
    ordered, order = values.sort(dim=-1, descending=True, stable=True)
    chosen, best = order[..., :top_k], ordered[..., :top_k]
    return Gates(chosen, best.softmax(-1), ordered, values, values if clean is None else clean, spread)


def _rows(weight: Tensor, rows: list[int] | None) -> Tensor:
    """Some rows of a weight; ``None`` for all."""
    return weight if rows is None or rows == list(range(len(weight))) else torch.stack([weight[n] for n in rows])


def balance(gates: Gates, kept: Tensor | None, *, importance: float, load: float) -> Tensor | None:
    """The sum of the two losses, a scalar; ``None`` where neither has a gradient.

    Args:
        gates: The gates ``(batch, positions, n)``.
        kept: True where a position is not padding ``(batch, positions)``; ``None`` for all.
        importance: Weight of the CV² of the importance.
        load: Weight of the CV² of the load.
    """
    loads = _expected_load(gates, kept) if load else None
    parts = [importance * _squared_variation(_total(gates.dense(), kept))] if importance else []
    parts += [] if loads is None else [load * _squared_variation(loads)]
    return sum(parts[1:], parts[0]) if parts else None


def _expected_load(gates: Gates, kept: Tensor | None) -> Tensor | None:
    """The expected number of positions of each expert ``(n,)``; ``None`` where all are chosen or there is no noise."""
    top_k, experts = gates.chosen.shape[-1], gates.clean.shape[-1]
    if gates.spread is None or top_k == experts:
        return None
    next_one, last = gates.ordered[..., top_k : top_k + 1], gates.ordered[..., top_k - 1 : top_k]
    chosen = torch.zeros_like(gates.noisy, dtype=torch.bool).scatter(-1, gates.chosen, True)
    threshold = torch.where(chosen, next_one, last)
    return _total(torch.special.ndtr((gates.clean - threshold) / gates.spread), kept)


def _squared_variation(values: Tensor) -> Tensor:
    """CV²: the population's variance over the squared mean."""
    return values.var(correction=0) / (values.mean().square() + _EPS)


def _total(values: Tensor, kept: Tensor | None) -> Tensor:
    """Sums over all positions that are not padding: ``(batch, positions, n)`` to ``(n,)``."""
    if kept is not None:
        values = values * kept.unsqueeze(-1).to(values.dtype)
    return values.flatten(0, -2).sum(0)
