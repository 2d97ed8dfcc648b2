"""A linear map and a layer norm that compute in the dtype of their input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graftwork.methods.layers.contract import cast


class Affine(nn.Module):
    """``W x + b``, W ``(out, in)`` from N(0, std) and b from zero.

    It is no `nn.Linear`, which peft's ``all-linear`` and quantisers would take. It computes in the dtype and on the device
    of its input, since one that is shared may be on another device.
    """

    def __init__(self, width_in: int, width_out: int, std: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width_out, width_in, dtype=dtype) * std)
        self.bias = nn.Parameter(torch.zeros(width_out, dtype=dtype))

    @torch.no_grad()
    def zero(self) -> None:
        """Set W to zero."""
        self.weight.zero_()

    def forward(self, values: Tensor) -> Tensor:
        """``(…, in)`` to ``(…, out)``."""
        return nn.functional.linear(
            values, self.weight.to(values.device, values.dtype), self.bias.to(values.device, values.dtype)
        )


def normed(norm: nn.LayerNorm, values: Tensor) -> Tensor:
    """A layer norm of values, computed in their dtype."""
    return nn.functional.layer_norm(
        values, norm.normalized_shape, cast(norm.weight, values), cast(norm.bias, values), norm.eps
    )
