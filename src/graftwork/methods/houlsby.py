"""Houlsby adapters (Houlsby et al. 2019, *Parameter-efficient transfer learning for NLP*, arXiv:1902.00751).

    y ← y + U gelu(D y + b_D) + b_U        after attention and after the feed-forward, before the addition

Two a layer, width 64, and a copy of every norm of the base for each task.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.registry import register


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Houlsby(Bottleneck):
    """Two adapters a layer on the branches' outputs, and the model's norms as the task's own.

    The paper starts D and U from a truncated normal of standard deviation 1e-2; the authors' code has 1e-3
    (``init_std=1e-3``). BERT-base at width 64: 2,379,264 weights, 2,417,664 with the 25 norms.

    Example:
        >>> adapters.add("c", gw.Houlsby(bottleneck_size=8))
    """

    method: ClassVar[str] = "houlsby"
    default_size: ClassVar[tuple[str, float]] = ("bottleneck_size", 64)

    activation: str = "gelu_tanh"
    norms: str = "own"


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Standard(Bottleneck):
    """Houlsby's adapter in its usual description: ReLU, and the base's norms unchanged.

    At d = 768, r = 64 without the up-projection's bias: 98,368 weights a site.

    Example:
        >>> adapters.add("c", gw.Standard(reduction_factor={"0": 4, "default": 8}))
    """

    method: ClassVar[str] = "standard"
    default_size: ClassVar[tuple[str, float]] = ("bottleneck_size", 64)
