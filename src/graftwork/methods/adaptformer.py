"""AdaptFormer (Chen et al. 2022, *Adapting Vision Transformers for Scalable Visual Recognition*, arXiv:2205.13535).

y ← y + 0.1 · (U relu(D s + b_D) + b_U)        parallel to the feed-forward, from the stream that enters it

The paper's formula has the model's norm in front of D (``reads="input"``); the authors' code has none, and neither has this.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.registry import register


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptFormer(Bottleneck):
    """One adapter parallel to each feed-forward, made for vision transformers; 64 wide, scale 0.1, U = 0 at the start.

    ViT-base: 1,189,632 weights.

    Example:
        >>> adapters.add("c", gw.AdaptFormer(bottleneck_size=8))
    """

    method: ClassVar[str] = "adaptformer"
    default_size: ClassVar[tuple[str, float]] = ("bottleneck_size", 64)
    default_init: ClassVar[str] = "parallel"

    sites: tuple[str, ...] = ("feed_forward",)
    reads: str = "residual"
    init: str = "parallel"
    dropout: float = 0.1
    scale: float | str = 0.1
