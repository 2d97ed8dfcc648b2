"""Projected attention layers (Stickland & Murray 2019, *BERT and PALs*, arXiv:1902.02671).

    PAL(h) = V_D attention(V_E h)            V_E (r, d), V_D (d, r)           δ = PAL(h), with a GELU around it in the code

Parallel to the whole layer: h is the stream that enters it, and δ is added with the feed-forward's output, before the layer's
last norm: ``norm(FFN(a) + a + PAL(h))``. Attention of width r has queries, keys and values with bias in every layer, and no
output projection; V_E and V_D are *one* pair for all layers of the adapter. The low-rank form has no attention, and a pair of
its own in every layer:

    δ = V_D gelu(V_E h + b_E) + b_D

All matrices start from N(0, 0.02), biases at zero. The paper trains the whole base with them (``base="trained"``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.layers.activations import activation, settle_activation
from graftwork.methods.layers.affine import Affine
from graftwork.methods.layers.attention import SelfAttention, by_position, visible_positions
from graftwork.methods.layers.contract import AdapterConfig, AdapterModule, Context, Place
from graftwork.methods.layers.layerwise import check_layers, layers_left_out, puts_adapter_at
from graftwork.methods.registry import register
from graftwork.options import one_of, within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class PAL(AdapterConfig):
    """Self-attention of a small width parallel to every layer, between two projections that all layers share.

    BERT-base: 1,819,836 weights. A decoder hides later positions here too; it cannot generate with a cache, which leaves the
    earlier ones out.

    Attributes:
        size: Width r of the attention.
        heads: Number of its heads, which has to divide r; the paper has 12, the authors' code 6.
        activation: The non-linearity after V_D: ``"identity"`` as in the paper, ``"gelu"`` as in the code.
        dropout: Dropout on the attention, while the adapter is trained.
        init: ``"normal"``, or ``"zero"``: V_D is zero, and so is the adapter's addition.
        init_std: Standard deviation of the matrices at the start.
        causal: Whether later positions are hidden from earlier ones; ``None`` for as in the model's own attention.
        leave_out: Layers without the adapter.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add("c", gw.PAL(size=8, heads=2))
    """

    method: ClassVar[str] = "pal"
    sites: ClassVar[tuple[str, ...]] = ("feed_forward",)

    size: int = 204
    heads: int = 12
    activation: str = "identity"
    dropout: float = 0.1
    init: str = "normal"
    init_std: float = 0.02
    causal: bool | None = None
    leave_out: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle_whole("size", "heads")
        if self.size % self.heads:
            raise ConfigError(f"PAL: heads is {self.heads}, which does not divide size {self.size}; give others")
        settle_activation(self)
        within(self, "dropout", 0.0, 0.999)
        within(self, "init_std", 0.0, 10.0)
        one_of(self, "init", ("normal", "zero"))
        one_of(self, "causal", (None, True, False))
        object.__setattr__(self, "leave_out", layers_left_out(self))

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        check_layers("PAL", "leave_out", self.leave_out, layers)

    def shared(self, places: Sequence[Place]) -> nn.Module:
        widths = sorted({place.site.width for place in places if puts_adapter_at(self, place)})
        return nn.ModuleDict({str(width): Projections(width, self) for width in widths})

    def build(self, place: Place, shared: nn.Module | None = None) -> PALModule | None:
        if not puts_adapter_at(self, place):
            return None
        if not isinstance(shared, nn.ModuleDict):
            raise ConfigError(f"PAL: build(place, {shared!r}) lacks the projections; give what shared(places) returned")
        return PALModule(self, place, shared)


class Projections(nn.Module):
    """V_E from the model's width to the attention's, and V_D back, with biases."""

    def __init__(self, width: int, config: PAL) -> None:
        super().__init__()
        self.encode = Affine(width, config.size, config.init_std, config.torch_dtype)
        self.decode = Affine(config.size, width, config.init_std, config.torch_dtype)
        if config.init == "zero":
            self.decode.zero()


class PALModule(AdapterModule):
    """``φ(V_D attention(V_E h))`` of one layer; V_E and V_D are shared by all layers."""

    mixes_positions = True

    def __init__(self, config: PAL, place: Place, shared: nn.ModuleDict) -> None:
        super().__init__(reads="layer_input", writes="branch", shared=shared)
        self.width, self.activation, self.dropout = str(place.site.width), config.activation, config.dropout
        self.causal = place.causal
        self.hides_later = place.causal if config.causal is None else config.causal
        self.has_randomness = config.dropout > 0
        self.attention = SelfAttention(config.size, config.heads, config.init_std, config.torch_dtype)

    def forward(self, read: Tensor, context: Context) -> Tensor:
        pair = self.shared[self.width]  # type: ignore[index]
        h = by_position(read, "PAL")
        visible = visible_positions(h, context, self.hides_later)
        mixed = self.attention(pair.encode(h), visible, self.dropout if self.random else 0.0)
        return activation(self.activation)(pair.decode(mixed)).reshape(read.shape)


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class LowRankPAL(Bottleneck):
    """A bottleneck parallel to every layer, which reads the layer's input: PALs without attention or shared weights.

    BERT-base: 1,853,616 weights.

    Example:
        >>> adapters.add("c", gw.LowRankPAL(bottleneck_size=8))
    """

    method: ClassVar[str] = "low_rank_pal"
    default_size: ClassVar[tuple[str, float]] = ("bottleneck_size", 100)
    default_init: ClassVar[str] = "normal"

    sites: tuple[str, ...] = ("feed_forward",)
    reads: str = "layer_input"
    activation: str = "gelu"
    init: str = "normal"
    init_std: float = 0.02
