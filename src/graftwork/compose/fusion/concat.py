"""Concat: one linear map over what each child makes of the site (Wang et al. 2020, *K-Adapter*, arXiv:2002.01808).

    r = W [v + δ_1; …; v + δ_N] + b          δ = r − v

with v the site's output, the stream at the end of a layer. Each of W's parts is stored as I / N + Δ_n and Δ_n starts at zero, as
b does: before it has learnt anything a Concat is the Average of its children.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftwork.compose.blocks import Concat, Learned
from graftwork.compose.fusion.learned import LearnedConfig, LearnedModule, register
from graftwork.compose.nodes import Node, mixes, required_reads_of
from graftwork.compose.reads import Reads
from graftwork.methods import Place
from graftwork.methods.layers.contract import cast


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConcatConfig(LearnedConfig):
    """How a Concat is made; it has no options but the dtype of its weights.

    Example:
        >>> adapters.add_fusion(gw.Concat("a", "b", name="ab"), gw.ConcatConfig(dtype="float32"))
    """

    def build(self, block: Learned, place: Place, shared: nn.Module | None = None) -> ConcatModule:
        return ConcatModule(block, place.site.width, self.torch_dtype)


class ConcatModule(LearnedModule):
    """The weights of one Concat at one site of width d: Δ ``(d, N d)``, b ``(d,)``."""

    def __init__(self, block: Learned, width: int, dtype: torch.dtype) -> None:
        super().__init__(pool=block.children, reads="output")
        self.width = width
        self.delta = nn.Parameter(torch.zeros(width, width * len(block.children), dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(width, dtype=dtype))


class ConcatNode(Node):
    """A Concat at one site. Of a smaller pool than its weights were made for, the others count as adding nothing."""

    def __init__(self, block: Concat, children: Sequence[Node | None], module: ConcatModule, site: str) -> None:
        self.children = list(children)
        self.module = module
        self.places = module.places(block)
        self.required_reads = required_reads_of(children) | {"output"}
        self.mixes_positions = mixes(children)

    def __call__(self, reads: Reads) -> Tensor:
        value = reads.get("output")
        deltas = [value.new_zeros(value.shape)] * len(self.module.pool)
        for place, child in zip(self.places, self.children, strict=True):
            found = None if child is None else child(reads)
            if found is not None:
                deltas[place] = found.to(value.dtype).reshape(value.shape)
        results = torch.cat([value + delta for delta in deltas], dim=-1)
        learnt = nn.functional.linear(results, cast(self.module.delta, value), cast(self.module.bias, value))
        return learnt + torch.stack(deltas).mean(0)


register(Concat, ConcatConfig, ConcatNode)
