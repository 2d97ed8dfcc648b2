"""Residual adapters (series: Rebuffi et al. 2017, arXiv:1705.08045; parallel: Rebuffi et al. 2018, arXiv:1803.10082).

    y = F ∗ x                                the convolution as it is, of the domain that the trunk learnt first
    parallel    y ← y + α ∗ x                α (out, in, 1, 1), its stride that of F
    series      y ← y + α ∗ bn(y)            α (out, out, 1, 1), bn a batch norm of the adapter's own

Behind it stands the model's batch norm. Every batch norm is the domain's own, weights and running statistics, and starts as a
copy of the trunk's; so is the head. What all domains share are the convolutions. The authors train α and norms by SGD at 0.1,
momentum 0.9, and the smaller the domain's data are, the more weight decay α takes.

At a convolution whose windows are wider or are padded otherwise α looks at the middle of each window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.contract import AdapterConfig, AdapterModule, Context, Place, cast
from graftwork.methods.layers.norms import run_norm
from graftwork.methods.registry import register
from graftwork.options import flags, one_of, within

MODES = ("parallel", "series")
INITS = ("he", "zero")


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualAdapter(AdapterConfig):
    """A pointwise convolution beside or behind every convolution of a trunk, and batch norms of its own.

    Attributes:
        mode: ``"parallel"`` (it reads what the convolution reads) or ``"series"`` (it reads what the convolution returns).
        init: ``"he"``, normal with standard deviation √(2/out), as the authors' code starts it; or ``"zero"``: the trunk.
        dropout: Share of the channels it reads that are left out in training; the authors take 0.5 for the smallest data.
        stem: Whether it stands at the network's first convolution too, as in the authors' network.
        norms: ``"own"``, or ``"base"``: the trunk's norms for all domains.
    """

    method: ClassVar[str] = "residual_adapter"
    sites: ClassVar[tuple[str, ...]] = ("convolution",)

    mode: str = "parallel"
    init: str = "he"
    dropout: float = 0.0
    stem: bool = True
    norms: str = "own"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "mode", MODES)
        one_of(self, "init", INITS)
        within(self, "dropout", 0.0, 0.999)
        flags(self, "stem")

    def build(self, place: Place, shared: nn.Module | None = None) -> ResidualAdapterModule | None:
        site = place.site
        if site.kind not in self.sites or (site.extra.get("first") and not self.stem):
            return None
        made: dict[str, Any] = {
            "width": site.width,
            "init": self.init,
            "dropout": self.dropout,
            "dtype": self.torch_dtype,
        }
        if self.mode == "series":
            return SeriesConvolution(**made)
        lacking = [fact for fact in ("in_channels", "stride", "margins") if fact not in site.extra]
        if lacking:
            raise ConfigError(
                f"ResidualAdapter: mode is 'parallel', but {site.key} does not say its convolution's {', '.join(lacking)} (it "
                "may pad by the size of the image); give mode='series', or the site with these in extra="
            )
        extra = site.extra
        return ParallelConvolution(
            **made, width_in=extra["in_channels"], stride=extra["stride"], margins=extra["margins"]
        )


class ResidualAdapterModule(AdapterModule):
    """The weights ``(out, in, 1, 1)`` of one place and how they start."""

    dimension = 1

    def __init__(self, reads: str, *, width: int, width_in: int, init: str, dropout: float, dtype: torch.dtype) -> None:
        super().__init__(reads=reads, writes="branch")
        self.weight = nn.Parameter(torch.zeros(width, width_in, 1, 1, dtype=dtype))
        if init == "he":
            nn.init.normal_(self.weight, std=(2 / width) ** 0.5)
        self.dropout = dropout
        self.has_randomness = dropout > 0

    def thinned(self, read: Tensor) -> Tensor:
        """The read with some of its channels left out, where that is at work."""
        return nn.functional.dropout2d(read, self.dropout) if self.random else read


class ParallelConvolution(ResidualAdapterModule):
    """α ∗ x: reads ``(batch, in, height, width)``, adds ``(batch, out, height / stride, width / stride)``."""

    def __init__(
        self, *, stride: Sequence[int], margins: Sequence[int], width: int, width_in: int, **made: Any
    ) -> None:
        super().__init__("input", width=width, width_in=width_in, **made)
        self.stride, self.margins = tuple(stride), tuple(margins)

    def forward(self, read: Tensor, context: Context) -> Tensor:
        """The addition for what the convolution reads."""
        read = self.thinned(read)
        if any(self.margins):
            read = nn.functional.pad(read, self.margins)
        return nn.functional.conv2d(read, cast(self.weight, read), stride=self.stride)


class SeriesConvolution(ResidualAdapterModule):
    """α ∗ bn(y): reads and adds ``(batch, out, height, width)``. The batch norm's statistics move while it learns."""

    def __init__(self, *, width: int, dtype: torch.dtype, **made: Any) -> None:
        super().__init__("output", width=width, width_in=width, dtype=dtype, **made)
        self.norm = nn.BatchNorm2d(width, dtype=dtype)

    def forward(self, read: Tensor, context: Context) -> Tensor:
        """The addition for what the convolution returns."""
        normed = run_norm(self.norm, self.thinned(read))
        return nn.functional.conv2d(normed, cast(self.weight, normed))
