"""Residual adapters (series: Rebuffi et al. 2017, arXiv:1705.08045; parallel: Rebuffi et al. 2018, arXiv:1803.10082).

    y = F ∗ x                                the convolution of the trunk, which was trained on another domain
    parallel    y ← y + α ∗ x                α (out, in, 1, 1), its stride that of F
    series      y ← y + α ∗ bn(y)            α (out, out, 1, 1), bn a batch norm of the adapter's own

The model's batch norm comes after it. Each domain has batch norms of its own, weights and running statistics, which start as
copies of the trunk's, and a head of its own. The domains share the convolutions. The authors train α and norms by SGD at 0.1,
momentum 0.9, with more weight decay on α for smaller data.

At a convolution with wider windows or other padding α reads the middle of each window.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.contract import AdapterConfig, AdapterModule, Context, Place, cast
from graftwork.methods.layers.norms import run_norm
from graftwork.methods.registry import register
from graftwork.options import flags, one_of, within
from graftwork.sites import Site


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualAdapter(AdapterConfig):
    """A pointwise convolution parallel to or after every convolution of a trunk, and batch norms of its own.

    Attributes:
        mode: ``"parallel"`` (it reads the convolution's input) or ``"series"`` (it reads the convolution's output).
        init: ``"he"``, normal with standard deviation √(2/out), as in the authors' code; or ``"zero"``: nothing is added.
        dropout: Share of the channels it reads that are left out in training; the authors use 0.5 for the smallest data.
        stem: Whether the network's first convolution has one too, as in the authors' network.
        norms: ``"own"``, or ``"base"``: the trunk's norms for all domains.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> convolutions = [torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3)]
        >>> domains = gw.attach(torch.nn.Sequential(*convolutions))
        >>> domains.add("c", gw.ResidualAdapter(mode="series"))
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
        one_of(self, "mode", ("parallel", "series"))
        one_of(self, "init", ("he", "zero"))
        within(self, "dropout", 0.0, 0.999)
        flags(self, "stem")

    def build(self, place: Place, shared: nn.Module | None = None) -> ResidualAdapterModule | None:
        site = place.site
        if site.kind not in self.sites or (site.extra.get("first") and not self.stem):
            return None
        lacking = [fact for fact in ("in_channels", "stride", "margins") if fact not in site.extra]
        if self.mode == "parallel" and lacking:
            raise ConfigError(
                f"ResidualAdapter: mode is 'parallel', but {site.key} does not say its convolution's {', '.join(lacking)} (it "
                "may pad by the size of the image); give mode='series', or the site with these in extra="
            )
        return ResidualAdapterModule(self, site)


class ResidualAdapterModule(AdapterModule):
    """α ∗ x or α ∗ bn(y) at one convolution, α ``(out, in, 1, 1)``.

    It reads ``(batch, in, height, width)`` and adds ``(batch, out, height / stride, width / stride)``. The batch norm's
    statistics move while it is trained.
    """

    dimension = 1

    def __init__(self, config: ResidualAdapter, site: Site) -> None:
        parallel, width, dtype = config.mode == "parallel", site.width, config.torch_dtype
        super().__init__(reads="input" if parallel else "output", writes="branch")
        width_in = site.extra["in_channels"] if parallel else width
        self.weight = nn.Parameter(torch.zeros(width, width_in, 1, 1, dtype=dtype))
        if config.init == "he":
            nn.init.normal_(self.weight, std=(2 / width) ** 0.5)
        self.norm = None if parallel else nn.BatchNorm2d(width, dtype=dtype)
        self.stride = tuple(site.extra["stride"]) if parallel else 1
        self.margins = tuple(site.extra["margins"]) if parallel else ()
        self.dropout, self.has_randomness = config.dropout, config.dropout > 0

    def forward(self, read: Tensor, context: Context) -> Tensor:
        if self.random:
            read = nn.functional.dropout2d(read, self.dropout)
        if self.norm is not None:
            read = run_norm(self.norm, read)
        elif any(self.margins):
            read = nn.functional.pad(read, self.margins)
        return nn.functional.conv2d(read, cast(self.weight, read), stride=self.stride)
