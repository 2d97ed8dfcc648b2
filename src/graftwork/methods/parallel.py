"""Scaled parallel adapters (He et al. 2021, *Towards a unified view*, arXiv:2110.04366).

y ← y + scale · (U relu(D s + b_D) + b_U)        parallel to the branch, from the stream that enters it
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from graftwork.errors import ConfigError
from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.registry import register


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Parallel(Bottleneck):
    """One adapter parallel to each feed-forward; d/2 wide, scale 4, U = 0 at the start.

    It reads the stream before the addition, as the authors' code does; ``reads="input"`` reads the input of the branch,
    which differs in a pre-norm model. ``scale="learned"`` starts at 1.

    Example:
        >>> adapters.add("c", gw.Parallel(bottleneck_size=8, scale="learned"))
    """

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """Refuse names of adapters, which a block of this name takes in other libraries."""
        if args:
            names = ", ".join(map(repr, args))
            raise ConfigError(
                f"Parallel({names}): gw.Parallel is a method, the scaled parallel adapter of He et al. 2021, and takes options "
                f"by name; for one text through several adapters at once use gw.Replicate({names})"
            )
        return super().__new__(cls, **options)

    method: ClassVar[str] = "parallel"
    default_size: ClassVar[tuple[str, float]] = ("reduction_factor", 2)
    default_init: ClassVar[str] = "parallel"

    sites: tuple[str, ...] = ("feed_forward",)
    reads: str = "residual"
    init: str = "parallel"
    scale: float | str = 4.0
