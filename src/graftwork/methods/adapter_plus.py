"""Adapter+ (Steitz & Roth 2024, *Adapters strike back*, arXiv:2406.06820).

s ← s + scale ⊙ (U gelu(D s + b_D) + b_U)        after the feed-forward's addition, a scale for each channel
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.registry import register


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterPlus(Bottleneck):
    """One narrow adapter a layer after the feed-forward, made for vision transformers: reduction 96.

    Example:
        >>> adapters.add("c", gw.AdapterPlus(reduction_factor=8))
    """

    method: ClassVar[str] = "adapter_plus"
    default_size: ClassVar[tuple[str, float]] = ("reduction_factor", 96)

    sites: tuple[str, ...] = ("feed_forward",)
    reads: str = "stream"
    writes: str = "stream"
    activation: str = "gelu"
    scale: float | str = "channel"
    stochastic_depth: float = 0.1
