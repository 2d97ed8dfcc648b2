"""Fuse at one site: the node that computes AdapterFusion, in the form that serves."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from graftwork.compose.blocks import Fuse
from graftwork.compose.fusion.fuse import FusionConfig, FusionModule
from graftwork.compose.fusion.fuse_forms import Folded, fuse
from graftwork.compose.fusion.learned import register
from graftwork.compose.nodes import Node, Pool
from graftwork.compose.reads import Reads


class FuseNode(Pool):
    """Fuse: weights for each token, by AdapterFusion."""

    def __init__(self, block: Fuse, children: Sequence[Node | None], module: FusionModule, site: str) -> None:
        super().__init__(children)
        self.required_reads |= {module.reads} | ({"output"} if module.config.residual_before else set())
        self.fusion, self.name, self.site = module, block.name, site
        whole = self.bank is not None and not self.others
        self.folded = Folded(module, self.bank) if whole and self.bank is not None else None

    def __call__(self, reads: Reads) -> Tensor:
        constants = None if self.folded is None else self.folded.serving(reads)
        if self.folded is not None and constants is not None:
            delta, weights = self.folded(reads, constants)
        else:
            delta, weights = fuse(self.fusion, reads, self.bank, self.other_deltas(reads), self.order)
        if reads.around.record is not None:
            reads.around.record.setdefault(self.name, {})[self.site] = weights.detach()
        return delta

    def fold(self) -> bool:
        if self.folded is None or not self.folded.bank.stackable:
            return False
        self.folded.pin()
        return True


register(Fuse, FusionConfig, FuseNode)
