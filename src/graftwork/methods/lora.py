"""LoRA (Hu et al. 2021, arXiv:2106.09685; rank-stabilised: Kalajdzievski 2023, arXiv:2312.03732).

    y ← y + (α / r) · B (A x)        at a linear module y = W x + c of the frozen base: A (r, d_in), B (d_out, r)

A LoRA is a banked adapter with the identity as its activation: it fuses, averages, routes and mixes by rows as bottlenecks do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from graftwork.methods.layers.contract import AdapterModule, Context, Place, Segment, cast
from graftwork.methods.layers.projection_config import ProjectionConfig, by_name, for_path
from graftwork.methods.registry import register
from graftwork.options import flags, one_of, within

INITS = ("kaiming", "gaussian")


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRA(ProjectionConfig):
    """Two low-rank matrices at each of the chosen linear modules; B starts at zero.

    Attributes:
        rank: Rank r.
        alpha: α, the factor of what is added times r.
        rank_pattern: Other ranks for some modules, by name as in ``targets``: ``{"layer.0.attention.self.query": 4}``.
        alpha_pattern: Other α, likewise.
        rank_stabilized: The factor is α / √r, and not α / r.
        dropout: On what A reads, while the adapter is trained.
        a_init: How A starts: ``"kaiming"``, uniform as a linear layer of torch; or ``"gaussian"``, with standard deviation 1 / r.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add("c", gw.LoRA(rank=4, targets=["query", "value"]))
        >>> adapters.active = gw.Average("c", "c", weights=[0.5, 0.5])
    """

    method: ClassVar[str] = "lora"

    rank: int = 8
    alpha: float = 16
    rank_pattern: Mapping[str, int] = dataclasses.field(default_factory=dict, hash=False)
    alpha_pattern: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    rank_stabilized: bool = False
    dropout: float = 0.0
    a_init: str = "kaiming"

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "rank", 1, whole=True)
        within(self, "alpha", 0.0)
        within(self, "dropout", 0.0, 0.999)
        flags(self, "rank_stabilized")
        one_of(self, "a_init", INITS)
        for field, low in (("rank_pattern", 1), ("alpha_pattern", 0)):
            object.__setattr__(self, field, by_name(self, field, low, whole=field == "rank_pattern"))

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        return LoRAModule(**self.module_options(place)) if self.is_at(place) else None

    def module_options(self, place: Place) -> dict[str, Any]:
        """What the module of a place is made with."""
        rank = int(for_path(self.rank_pattern, place.site.key, self.rank))
        return {
            "sizes": (place.site.input_width, place.site.width),
            "rank": rank,
            "scale": self.alpha_at(place.site.key) / (math.sqrt(rank) if self.rank_stabilized else rank),
            "dropout": self.dropout,
            "a_init": self.a_init,
            "dtype": self.torch_dtype,
        }

    def alpha_at(self, path: str) -> float:
        """α at a projection, by its path inside the base model."""
        return for_path(self.alpha_pattern, path, self.alpha)


class LowRankModule(AdapterModule):
    """``U φ(D x)`` for the module's input x ``(…, d_in)``, added to its output ``(…, d_out)``, with dropout on x."""

    def __init__(self, dropout: float, shared: nn.Module | None = None) -> None:
        super().__init__(reads="input", writes="branch", shared=shared)
        self.dropout, self.has_randomness = dropout, dropout > 0

    @property
    def banked(self) -> bool:
        return True

    @property
    def foldable(self) -> bool:
        return True

    def prepare(self, read: Tensor) -> Tensor:
        return nn.functional.dropout(read, self.dropout) if self.dropout and self.random else read


class LoRAModule(LowRankModule):
    """``scale · B (A x)``."""

    def __init__(
        self, *, sizes: tuple[int, int], rank: int, scale: float, dropout: float, a_init: str, dtype: torch.dtype
    ) -> None:
        super().__init__(dropout)
        self.scale = scale
        self.down = nn.Parameter(torch.empty(rank, sizes[0], dtype=dtype))
        self.up = nn.Parameter(torch.zeros(sizes[1], rank, dtype=dtype))
        if a_init == "gaussian":
            nn.init.normal_(self.down, std=1 / rank)
        else:
            nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, read: Tensor, context: Context) -> Tensor:
        # The factor goes to the r features and not to B: that is less to multiply where there is one token.
        features = nn.functional.linear(self.prepare(read), cast(self.down, read)) * self.scale
        return nn.functional.linear(features, cast(self.up, features))

    def segments(self) -> tuple[Segment, ...]:
        return (Segment(self.down, None, "identity"),)

    def readout(self) -> tuple[Tensor, Tensor | None]:
        return self.up * self.scale, None
