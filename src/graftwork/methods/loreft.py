"""LoReFT (Wu et al. 2024, *ReFT: Representation Finetuning for Language Models*, arXiv:2404.03592).

    h ← h + Rᵀ (W h + b − R h)        at the first p and the last s positions of a row, after the whole layer

R ``(r, d)`` has orthonormal rows: in the r dimensions that they span, h is replaced by W h + b, and nothing else of it changes.
Elsewhere in the row nothing is added. Padding does not count: the last position is the last that is text.

R is made of a free matrix A ``(r, d)`` by Gram-Schmidt (a QR decomposition of Aᵀ), so that its rows stay orthonormal whatever
an optimizer or a merge does to A. A starts orthonormal, W and b as torch's linear layers do, as in the authors' code.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.attention import by_position
from graftwork.methods.layers.contract import AdapterConfig, AdapterModule, Context, Place, Segment, cast
from graftwork.methods.layers.layerwise import check_layers, layers_left_out, puts_adapter_at
from graftwork.methods.layers.weight_cache import WeightCache
from graftwork.methods.registry import register
from graftwork.options import flags, one_of


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class LoReFT(AdapterConfig):
    """An edit of a few dimensions of the stream after each layer, at the first and last positions of each row.

    LLaMA-7B at rank 8: 2,097,408 weights (0.031 % of all). A decoder has it at the first positions only, because no position there
    knows how many come after it. It generates without a cache (``use_cache=False``), which would leave the earlier ones out.

    Attributes:
        rank: Number r of the dimensions that are edited.
        first: Number p of positions at the beginning of a row; 7 in the paper's experiments on reasoning.
        last: Number s of positions at its end; one that is among the first too counts as one of these.
        tied: Whether the first and the last positions share R, W and b.
        init: ``"published"``, or ``"zero"``: W = R and b = 0, so that nothing changes.
        leave_out: Layers without the adapter.

    Raises:
        ConfigError: If a value is refused, or the model is a decoder and ``last`` is not 0.

    Example:
        >>> adapters.add("c", gw.LoReFT(rank=4, first=2, last=1, leave_out=[0]))
    """

    method: ClassVar[str] = "loreft"
    sites: ClassVar[tuple[str, ...]] = ("layer",)

    rank: int = 8
    first: int = 7
    last: int = 0
    tied: bool = True
    init: str = "published"
    leave_out: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle_whole("rank")
        self._settle_whole("first", "last", low=0)
        if not self.first and not self.last:
            raise ConfigError("LoReFT: first and last are 0, so that no position is edited; give one of them a number")
        flags(self, "tied")
        one_of(self, "init", ("published", "zero"))
        object.__setattr__(self, "leave_out", layers_left_out(self))

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        check_layers("LoReFT", "leave_out", self.leave_out, layers)

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        if not puts_adapter_at(self, place):
            return None
        if self.rank > place.site.width:
            raise ConfigError(
                f"LoReFT: rank is {self.rank}, but {place.site.key} is {place.site.width} wide; give at most that"
            )
        if self.last and place.causal:
            raise ConfigError(
                f"LoReFT: last is {self.last}, but {place.site.key} is in a decoder, where no position knows how many come "
                "after it; give last=0, or leave the layers of the decoder out"
            )
        return LoReFTModule(self, place)


class LoReFTModule(AdapterModule):
    """``Rᵀ (W h + b − R h)`` at some positions of one layer's output.

    Attributes:
        free: A ``(k, r, d)``, of which R is made; k is 2 where the first and the last positions have weights of their own, else 1.
        source: W ``(k, r, d)``.
        bias: b ``(k, r)``.
    """

    mixes_positions = True

    def __init__(self, config: LoReFT, place: Place) -> None:
        super().__init__(reads="output", writes="stream")
        self.first, self.last, self.causal = config.first, config.last, place.causal
        width, dtype = place.site.width, config.torch_dtype
        count = 2 if config.first and config.last and not config.tied else 1
        self.free = nn.Parameter(torch.randn(count, config.rank, width, dtype=dtype))
        self.source = nn.Parameter(torch.empty_like(self.free))
        self.bias = nn.Parameter(torch.zeros(count, config.rank, dtype=dtype))
        self.kept: WeightCache[tuple[Tensor, Tensor]] = WeightCache(self._make)
        with torch.no_grad():
            self.free.copy_(orthonormal(self.free))
            if config.init == "zero":
                self.source.copy_(orthonormal(self.free))
            else:
                bound = 1 / math.sqrt(width)
                self.source.uniform_(-bound, bound)
                self.bias.uniform_(-bound, bound)

    def rotation(self) -> Tensor:
        """Return R ``(k, r, d)``."""
        return orthonormal(self.free)

    def _make(self) -> tuple[Tensor, Tensor]:
        """W − R ``(k · r, d)`` and Rᵀ ``(d, k · r)``."""
        rotation = self.rotation()
        return (self.source - rotation).flatten(0, 1), rotation.flatten(0, 1).t()

    def positions(self, read: Tensor, context: Context) -> Tensor:
        """Return which positions are edited, ``(batch, positions, k)``: 1 or 0."""
        flat, mask = by_position(read, "LoReFT"), context.padding_mask(read)
        text = flat.new_ones(flat.shape[:2], dtype=torch.bool) if mask is None else mask.to(read.device)
        count = text.cumsum(1)
        first = text & (count <= self.first)
        last = text & (count > count[:, -1:] - self.last) & ~first
        chosen = torch.stack([first, last] if len(self.free) == 2 else [first | last], dim=-1)
        return chosen.reshape(*read.shape[:-1], -1).to(read.dtype)

    def forward(self, read: Tensor, context: Context) -> Tensor:
        down, up = self.kept.get(self.weights())
        features = nn.functional.linear(read, cast(down, read), cast(self.bias.flatten(), read))
        chosen = self.positions(read, context)
        features = features.unflatten(-1, (len(self.free), -1)) * chosen.to(features.dtype).unsqueeze(-1)
        return nn.functional.linear(features.flatten(-2), cast(up, features))

    @property
    def banked(self) -> bool:
        return len(self.free) == 1

    def segments(self) -> tuple[Segment, ...]:
        return (Segment(self.kept.get(self.weights())[0], self.bias[0], "identity"),)

    def readout(self) -> tuple[Tensor, Tensor | None]:
        return self.kept.get(self.weights())[1], None

    def gain(self, read: Tensor, context: Context) -> Tensor:
        return self.positions(read, context)


def orthonormal(rows: Tensor) -> Tensor:
    """Return the rows ``(…, r, d)`` made orthonormal one after another, those that are already unchanged up to rounding.

    The decomposition is made in float32 or wider.
    """
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    basis, triangle = torch.linalg.qr(wide.mT)
    # a decomposition is unique, and does not jump while A is trained, where the diagonal is positive
    signs = torch.where(triangle.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(wide.dtype)
    return (basis * signs.unsqueeze(-2)).mT.to(rows.dtype)
