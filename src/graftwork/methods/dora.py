"""DoRA (Liu et al. 2024, arXiv:2402.09353): LoRA with a magnitude for each output of its own.

    y = m ⊙ (W + s B A) x / ‖W + s B A‖ + c          the norm row by row, m from ‖W‖, s = α / r

As an addition to y = W x + c, with the norm taken as a constant (section 4.3 of the paper):

    y ← y + (m / ‖W + s B A‖ − 1) ⊙ W x + m / ‖W + s B A‖ ⊙ s B A x
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from graftwork.errors import SiteError
from graftwork.methods.layers.contract import AdapterModule, Context, Place, cast
from graftwork.methods.layers.weight_cache import WeightCache
from graftwork.methods.lora import LoRA, LoRAModule
from graftwork.methods.registry import register
from graftwork.sites import weight_by_output


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class DoRA(LoRA):
    """LoRA with a trained magnitude for each row of the weight; options as `LoRA`. The base's weights must be plain floats.

    Example:
        >>> adapters.add("c", gw.DoRA(rank=4, targets=["query", "value"]))
    """

    method: ClassVar[str] = "dora"

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        return DoRAModule(place, **self.module_options(place)) if self.is_at(place) else None


class DoRAModule(LoRAModule):
    """Reads the input of a linear module, and its output; its norm is that of the module's own weight."""

    def __init__(self, place: Place, **options: Any) -> None:
        super().__init__(**options)
        self.also_reads = ("output",)
        weight = getattr(place.module, "weight", None)
        # torchao's say that they are floats, and are tensors of a class that wraps others
        plain = isinstance(weight, Tensor) and not is_traceable_wrapper_subclass(weight)
        if not (plain and weight.dim() == 2 and weight.is_floating_point()):  # type: ignore[union-attr]  # a Tensor
            raise SiteError(
                f"DoRA needs the weight of {place.site.key}, which is no plain tensor of floats (quantised?); use LoRA"
            )
        self.magnitude = nn.Parameter(self._norm(weight_by_output(place.module)).to(options["dtype"]))
        self.kept: WeightCache[Tensor] = WeightCache()

    @property
    def banked(self) -> bool:
        return False

    @property
    def foldable(self) -> bool:
        return False

    @torch.no_grad()
    def _norm(self, weight: Tensor) -> Tensor:
        """‖W + s B A‖ ``(out,)``."""
        return (weight + self.scale * (self.up @ self.down).to(weight.dtype)).norm(dim=1)

    def forward(self, read: Tensor, context: Context, *also: Tensor) -> Tensor:
        """The addition for the module's input ``(…, in)`` and output ``(…, out)``."""
        (output,) = also
        base: Any = context.module
        weight = weight_by_output(base)
        norm = self.kept.get([self.down, self.up, base.weight], lambda: self._norm(weight))
        ratio = cast(self.magnitude, output) / norm.to(output.dtype)
        if self.random:
            read = nn.functional.dropout(read, self.dropout)
            plain = nn.functional.linear(read, weight)
        else:
            plain = output if base.bias is None else output - base.bias
        low_rank = nn.functional.linear(nn.functional.linear(read, cast(self.down, read)), cast(self.up, read))
        return (ratio - 1) * plain + ratio * self.scale * low_rank
