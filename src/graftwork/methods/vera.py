"""VeRA (Kopiczko et al. 2023, arXiv:2310.11454): LoRA made of two random matrices that all sites share, and two vectors each.

    y ← y + λ_b ⊙ (B (λ_d ⊙ (A x)))        A (r, d_in) and B (d_out, r) random and fixed, λ_d (r,) and λ_b (d_out,) trained

Sites of other sizes use the first columns of A and the first rows of B.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from graftwork.methods.layers.contract import AdapterModule, Place, Segment
from graftwork.methods.layers.projection_config import ProjectionConfig
from graftwork.methods.lora import LowRankModule
from graftwork.methods.registry import register
from graftwork.options import within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class VeRA(ProjectionConfig):
    """Two trained vectors at each of the chosen linear modules; λ_b starts at zero.

    Attributes:
        rank: Rank r of the random matrices.
        dropout: On what A reads, while the adapter is trained.
        d_start: What λ_d starts at.
        seed: Of the random matrices, which are in the adapter's file too.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add("c", gw.VeRA(rank=16, targets=["query", "value"]))
    """

    method: ClassVar[str] = "vera"

    rank: int = 256
    dropout: float = 0.0
    d_start: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "rank", 1, whole=True)
        within(self, "dropout", 0.0, 0.999)
        within(self, "d_start", -1e6, 1e6)
        within(self, "seed", 0, 2**63 - 1, whole=True)

    def shared(self, places: Sequence[Place]) -> nn.Module | None:
        sites = [place.site for place in places if self.is_at(place)]
        if not sites:
            return None
        sizes = max(site.input_width for site in sites), max(site.width for site in sites)
        return RandomMatrices(*sizes, self.rank, self.seed, self.torch_dtype)

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        return VeRAModule(self, place, shared) if self.is_at(place) else None


class RandomMatrices(nn.Module):
    """A ``(r, d_in)`` and B ``(d_out, r)``, uniform as in Kaiming's start; buffers, which nothing trains."""

    a: Tensor
    b: Tensor

    def __init__(self, width_in: int, width_out: int, rank: int, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        for name, shape in (("a", (rank, width_in)), ("b", (width_out, rank))):
            bound = math.sqrt(6 / shape[1])
            with torch.device("cpu"):
                matrix = torch.empty(shape).uniform_(-bound, bound, generator=draw)
            self.register_buffer(name, matrix.to(dtype))


class VeRAModule(LowRankModule):
    """``λ_b ⊙ (B (λ_d ⊙ (A x)))``."""

    def __init__(self, config: VeRA, place: Place, shared: nn.Module | None) -> None:
        super().__init__(config.dropout, shared)
        self.sizes = place.site.input_width, place.site.width
        self.lambda_d = nn.Parameter(torch.full((config.rank,), config.d_start, dtype=config.torch_dtype))
        self.lambda_b = nn.Parameter(torch.zeros(self.sizes[1], dtype=config.torch_dtype))

    def segments(self) -> tuple[Segment, ...]:
        a: Tensor = self.shared.a  # type: ignore[union-attr, assignment]
        return (Segment(self.lambda_d[:, None] * a[:, : self.sizes[0]], None, "identity"),)

    def readout(self) -> tuple[Tensor, Tensor | None]:
        b: Tensor = self.shared.b  # type: ignore[union-attr, assignment]
        return self.lambda_b[:, None] * b[: self.sizes[1]], None
