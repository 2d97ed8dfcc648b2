"""The bottlenecks of LLM-Adapters (Hu et al. 2023, arXiv:2304.01933), in the placements that its authors found best.

    series        y ← y + U tanh(D y)        after the feed-forward, before the addition
    parallel      y ← y + U tanh(D x)        parallel to two linear modules of the feed-forward, y = W x + c

256 wide, without biases, from N(0, 0.02), as in the authors' code. The parallel one goes around each module by itself: in a
LLaMA ``up_proj`` and ``down_proj``, of which one widens and the other narrows.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn

from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.layers.activations import settle_activation
from graftwork.methods.layers.contract import AdapterModule, Place, Segment
from graftwork.methods.layers.projection_config import ProjectionConfig
from graftwork.methods.lora import LowRankModule
from graftwork.methods.registry import register
from graftwork.options import one_of, within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class LLMAdaptersSeries(Bottleneck):
    """One adapter a layer on the feed-forward's output, 256 wide, tanh, without biases.

    LLaMA-7B: 67,108,864 weights (0.99 % of all).

    Example:
        >>> adapters.add("c", gw.LLMAdaptersSeries(bottleneck_size=8))
    """

    method: ClassVar[str] = "llm_adapters_series"
    default_size: ClassVar[tuple[str, float]] = ("bottleneck_size", 256)
    default_init: ClassVar[str] = "normal"

    sites: tuple[str, ...] = ("feed_forward",)
    activation: str = "tanh"
    init: str = "normal"
    init_std: float = 0.02
    down_bias: bool = False
    up_bias: bool = False


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class LLMAdaptersParallel(ProjectionConfig):
    """A bottleneck parallel to each of the chosen linear modules, 256 wide, tanh, without biases.

    The default targets are those of LLaMA, GPT-J, BLOOM and OPT; name them for other models. LLaMA-7B: 247,463,936 weights
    (3.54 % of all).

    Attributes:
        bottleneck_size: Width r.
        activation: The non-linearity, one of `graftwork.methods.layers.activations.ACTIVATIONS`.
        init: ``"normal"``, or ``"zero"``: U is zero, and so is what is added.
        init_std: Standard deviation of D and U at the start.
        dropout: On what D reads, while the adapter is trained.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add("c", gw.LLMAdaptersParallel(bottleneck_size=8, targets=["intermediate.dense"]))
    """

    method: ClassVar[str] = "llm_adapters_parallel"

    targets: tuple[str, ...] = (
        *("up_proj", "down_proj"),
        *("fc_in", "fc_out"),
        *("dense_h_to_4h", "dense_4h_to_h"),
        *("fc1", "fc2"),
    )
    bottleneck_size: int = 256
    activation: str = "tanh"
    init: str = "normal"
    init_std: float = 0.02
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle_whole("bottleneck_size")
        settle_activation(self)
        one_of(self, "init", ("normal", "zero"))
        within(self, "init_std", 0.0, 10.0)
        within(self, "dropout", 0.0, 0.999)

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        return ParallelModule(self, place) if self.is_at(place) else None


class ParallelModule(LowRankModule):
    """``U φ(D x)``."""

    def __init__(self, config: LLMAdaptersParallel, place: Place) -> None:
        super().__init__(config.dropout)
        size, dtype, std = config.bottleneck_size, config.torch_dtype, config.init_std
        self.activation = config.activation
        self.down = nn.Parameter(torch.randn(size, place.site.input_width, dtype=dtype) * std)
        self.up = nn.Parameter(torch.randn(place.site.width, size, dtype=dtype) * std)
        if config.init == "zero":
            nn.init.zeros_(self.up)

    def segments(self) -> tuple[Segment, ...]:
        return (Segment(self.down, None, self.activation),)

    def readout(self) -> tuple[Tensor, Tensor | None]:
        return self.up, None
