"""The Pfeiffer adapter (Pfeiffer et al. 2020, *AdapterFusion*, arXiv:2005.00247; *MAD-X*, arXiv:2005.00052).

    post-norm:  norm(s + y + A(norm(s + y)))           pre-norm:  s + y + A(s + y)

One a layer, after the feed-forward; it reads the stream after the model's own norm.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.registry import register


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Pfeiffer(Bottleneck):
    """One adapter a layer after the feed-forward; d/16 wide, N(0, 0.02).

    BERT-base at reduction factor 16: 894,528 weights.

    Example:
        >>> adapters.add("c", gw.Pfeiffer(reduction_factor=8, leave_out=[0]))
    """

    method: ClassVar[str] = "pfeiffer"
    default_size: ClassVar[tuple[str, float]] = ("reduction_factor", 16)
    default_init: ClassVar[str] = "normal"

    sites: tuple[str, ...] = ("feed_forward",)
    reads: str = "normed"
    init: str = "normal"
    init_std: float = 0.02
