"""(IA)³ (Liu et al. 2022, arXiv:2205.05638): each feature of a linear module of the frozen base is scaled.

y ← l ⊙ y                  at a module y = W x + c: what is added is (l − 1) ⊙ y
y ← W (l ⊙ x) + c          at a module of the feed-forward whose input is scaled: W ((l − 1) ⊙ x) is added, one more
                           product with W
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from graftwork.methods.layers.contract import AdapterModule, Context, Place, cast
from graftwork.methods.layers.projection_config import ProjectionConfig, ends_in_any, names_of_modules
from graftwork.methods.registry import register


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class IA3(ProjectionConfig):
    """A trained factor for each feature of the chosen linear modules, which starts at 1.

    The paper scales keys, values, and what enters the last module of each feed-forward.

    Attributes:
        feedforward: Names of those among ``targets`` whose input is scaled, and not their output.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add("c", gw.IA3(targets=["key", "value", "output.dense"], feedforward=["output.dense"]))
    """

    method: ClassVar[str] = "ia3"

    feedforward: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "feedforward", names_of_modules(self, "feedforward"))

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        if not self.is_at(place):
            return None
        scales_input = ends_in_any(place.site.key, self.feedforward)
        size = place.site.input_width if scales_input else place.site.width
        return IA3Module("input" if scales_input else "output", size, self.torch_dtype)


class IA3Module(AdapterModule):
    """Reads the output of a linear module ``(…, d_out)``, or its input ``(…, d_in)``; adds to the output."""

    def __init__(self, reads: str, size: int, dtype: torch.dtype) -> None:
        super().__init__(reads=reads, writes="branch")
        self.factors = nn.Parameter(torch.ones(size, dtype=dtype))

    def forward(self, read: Tensor, context: Context) -> Tensor:
        scaled: Tensor = (cast(self.factors, read) - 1) * read
        if self.reads == "output":
            return scaled
        base: Any = context.module
        # `forward` and not a call: the base's module in whatever form its weight has, without the hooks.
        return base.forward(scaled) if base.bias is None else base.forward(scaled) - base.bias  # type: ignore[no-any-return]
