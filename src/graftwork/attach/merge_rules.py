"""How differences from a common start are made one: TIES and DARE.

TIES (Yadav et al. 2023, arXiv:2306.01708), with τ_n the n-th difference as one vector:

    trim     keep the share `density` of largest magnitude of each τ_n, the rest is 0
    elect    γ = sign(Σ_n w_n τ_n), entry by entry
    merge    the mean of those w_n τ_n whose sign is γ

DARE (Yu et al. 2023, arXiv:2311.03099):

    drop     keep each entry of τ_n with probability `density`, at random, the rest is 0; what is kept is divided by `density`
    merge    Σ_n w_n τ_n, or by TIES's election (``"dare_ties"``)
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from graftwork.errors import ConfigError
from graftwork.options import is_number

RULES = ("sum", "ties", "dare", "dare_ties")
K = TypeVar("K", bound=Hashable)
Vectors = Mapping[K, Tensor]


def require_rule(rule: str, density: float) -> None:
    """Refuse a rule that is none, and a density that is no share."""
    if rule not in RULES:
        raise ConfigError(f"merge: rule is {rule!r}; it must be one of {', '.join(map(repr, RULES))}")
    if not is_number(density) or not 0 < density <= 1:
        raise ConfigError(f"merge: density is {density!r}; give a share above 0, up to 1")


def combined(
    vectors: Sequence[Vectors[K]], weights: Sequence[float], rule: str, density: float, generator: torch.Generator
) -> dict[K, Tensor]:
    """The differences of several adapters, each tensor by tensor, made one by a rule."""
    keep = trimmed if rule == "ties" else thinned
    kept = [keep(vector, density, generator) for vector in vectors]
    merged = {}
    for key in vectors[0]:
        terms = torch.stack([weight * vector[key] for weight, vector in zip(weights, kept, strict=True)])
        merged[key] = elected(terms) if rule.endswith("ties") else terms.sum(0)
    return merged


def trimmed(vector: Vectors[K], density: float, generator: torch.Generator) -> dict[K, Tensor]:
    """A difference with the share of largest magnitude kept, over all of its tensors."""
    flat = torch.cat([tensor.abs().flatten() for tensor in vector.values()])
    kept = max(1, round(density * flat.numel()))
    threshold = flat.kthvalue(flat.numel() - kept + 1).values
    return {key: torch.where(tensor.abs() >= threshold, tensor, 0.0) for key, tensor in vector.items()}


def thinned(vector: Vectors[K], density: float, generator: torch.Generator) -> dict[K, Tensor]:
    """A difference with entries dropped at random, the others rescaled so that its mean stays."""
    return {
        key: tensor * torch.empty_like(tensor).bernoulli_(density, generator=generator) / density
        for key, tensor in vector.items()
    }


def elected(terms: Tensor) -> Tensor:
    """The mean over the first dimension of the terms that have the sign of their sum."""
    agree = (terms.sign() == terms.sum(0).sign()) & (terms != 0)
    return (terms * agree).sum(0) / agree.sum(0).clamp(min=1)
