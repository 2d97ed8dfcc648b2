"""Adapters between layers (Bapna & Firat 2019, *Simple, scalable adaptation for NMT*, arXiv:1909.08478).

s ← s + U relu(D norm(s) + b_D) + b_U        after the whole layer, with a norm of the adapter's own
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.registry import register


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class BapnaFirat(Bottleneck):
    """One adapter after each layer, Xavier at the start as in the authors' code.

    Example:
        >>> adapters.add("c", gw.BapnaFirat(bottleneck_size=8))
    """

    method: ClassVar[str] = "bapna_firat"
    default_size: ClassVar[tuple[str, float]] = ("bottleneck_size", 64)
    default_init: ClassVar[str] = "xavier"

    sites: tuple[str, ...] = ("layer",)
    writes: str = "stream"
    init: str = "xavier"
    norm_before: bool = True
