"""Language adapters with an invertible one around the model (Pfeiffer et al. 2020, *MAD-X*, arXiv:2005.00052).

    after the embeddings             N(x):       y_1 = x_1 + F(x_2)          y_2 = x_2 + G(y_1)
    before the vocabulary            N⁻¹(y):     x_2 = y_2 − G(y_1)          x_1 = y_1 − F(x_2)

x_1 and x_2 are the halves of x, F and G bottlenecks of width d/4 on them (NICE: Dinh et al. 2014, arXiv:1410.8516). N changes
the embeddings of a language, and N⁻¹ undoes that where the model's states are compared with these embeddings. Every layer has a
Pfeiffer adapter of width d/2.

The inverse is where the model projects to its vocabulary; a model without that (a classifier) has N alone. F and G start from
N(0, 0.02), biases at zero. A language's adapter is trained on masked words of plain text; a task's adapter is stacked on it,
``Stack("en", "ner")``, and is used with another language by replacing ``"en"``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError, SiteError
from graftwork.methods.layers.activations import activation
from graftwork.methods.layers.affine import Affine
from graftwork.methods.layers.contract import AdapterModule, Context, Place
from graftwork.methods.pfeiffer import Pfeiffer
from graftwork.methods.registry import register
from graftwork.options import flags, within

_ENDS = ("embedding", "output_projection")


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class InvertiblePfeiffer(Pfeiffer):
    """A Pfeiffer adapter of half the model's width in each layer, and an invertible one at the model's two ends.

    The invertible one has 296,064 weights at width 768. It cannot be weighed (half of it has another inverse): an `Average`
    or a `Fuse` takes adapters with ``invertible=False`` only.

    Attributes:
        invertible: Whether there is an invertible adapter.
        invertible_reduction: Half the width of the model over the width of F and G.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add("en", gw.InvertiblePfeiffer(reduction_factor=4))
    """

    method: ClassVar[str] = "invertible_pfeiffer"
    default_size: ClassVar[tuple[str, float]] = ("reduction_factor", 2)

    invertible: bool = True
    invertible_reduction: float = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        flags(self, "invertible")
        within(self, "invertible_reduction", 1e-3)
        if self.invertible and set(_ENDS) & set(self.sites):
            raise ConfigError(
                f"InvertiblePfeiffer: sites is {self.sites!r}, but at {' and '.join(_ENDS)} stands its invertible adapter; "
                "leave them out, or give invertible=False"
            )

    def shared(self, places: Sequence[Place]) -> nn.Module | None:
        if not self.invertible:
            return None
        widths = sorted({place.site.width for place in places if place.site.kind == "embedding"})
        if not widths:
            raise SiteError(
                "InvertiblePfeiffer adds to the embeddings, and this model has no site of the kind embedding; give one, or "
                "invertible=False"
            )
        return nn.ModuleDict({str(width): Coupling(width, self) for width in widths})

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        if not self.invertible or place.site.kind not in _ENDS:
            return super().build(place, shared)
        if not isinstance(shared, nn.ModuleDict):
            raise ConfigError(
                f"InvertiblePfeiffer: build(place, {shared!r}) lacks N; give what shared(places) returned"
            )
        if str(place.site.width) not in shared:
            raise ConfigError(
                f"InvertiblePfeiffer: {place.site.key} is {place.site.width} wide, and the embeddings are "
                f"{' and '.join(shared)}, so that their change cannot be undone here; give invertible=False"
            )
        return InvertibleModule(place.site.width, shared, back=place.site.kind == "output_projection")


class Coupling(nn.Module):
    """What N and its inverse add to their input; F and G are a down- and an up-projection each."""

    def __init__(self, width: int, config: InvertiblePfeiffer) -> None:
        super().__init__()
        if width % 2:
            raise ConfigError(
                f"InvertiblePfeiffer: the embeddings are {width} wide, which has no two halves; give invertible=False"
            )
        half = width // 2
        size = max(1, int(half / config.invertible_reduction))
        std, dtype = config.init_std, config.torch_dtype
        self.activation = config.activation
        self.f_down, self.f_up = Affine(half, size, std, dtype), Affine(size, half, std, dtype)
        self.g_down, self.g_up = Affine(half, size, std, dtype), Affine(size, half, std, dtype)
        if config.init == "zero":
            self.f_up.zero()
            self.g_up.zero()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``N(x) − x``, ``(…, width)`` for the same."""
        first, second = x.chunk(2, dim=-1)
        added = self._f(second)
        return torch.cat([added, self._g(first + added)], dim=-1)

    def back(self, y: Tensor) -> Tensor:
        """Return ``N⁻¹(y) − y``, ``(…, width)`` for the same."""
        first, second = y.chunk(2, dim=-1)
        taken = self._g(first)
        return torch.cat([-self._f(second - taken), -taken], dim=-1)

    def _f(self, half: Tensor) -> Tensor:
        return self.f_up(activation(self.activation)(self.f_down(half)))

    def _g(self, half: Tensor) -> Tensor:
        return self.g_up(activation(self.activation)(self.g_down(half)))


class InvertibleModule(AdapterModule):
    """N after the embeddings, or N⁻¹ before the vocabulary; both use the same, shared weights."""

    unweighable = (
        "its invertible adapter would have another inverse; use Stack, or compositions by rows or positions, or make it with "
        "InvertiblePfeiffer(invertible=False)"
    )

    def __init__(self, width: int, shared: nn.ModuleDict, *, back: bool) -> None:
        super().__init__(reads="output", writes="branch", shared=shared)
        self.width, self.back = str(width), back

    def forward(self, read: Tensor, context: Context) -> Tensor:
        coupling = self.shared[self.width]  # type: ignore[index]
        return coupling.back(read) if self.back else coupling(read)
