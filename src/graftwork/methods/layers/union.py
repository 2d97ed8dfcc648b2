"""The module of a union at one site: several methods whose additions add up."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from graftwork.methods.layers.contract import AdapterModule, Context, Segment


class UnionModule(AdapterModule):
    """``δ = Σ_k A_k(read_k)``, every part with its own read.

    It is banked where its parts are features of one read and nothing else: the features side by side, the readouts too.

    Args:
        parts: The modules, by the number of their configuration in the union.
        shared: What the parts at all sites have in common, as one module.
    """

    def __init__(self, parts: Mapping[int, AdapterModule], shared: nn.Module | None = None) -> None:
        modules = list(parts.values())
        reads = dict.fromkeys([*(m.reads for m in modules), *(role for m in modules for role in m.also_reads)])
        super().__init__(reads=modules[0].reads, writes=modules[0].writes, shared=shared)
        self.also_reads = tuple(reads)[1:]
        self.has_randomness = any(m.has_randomness for m in modules)
        self.mixes_positions = any(m.mixes_positions for m in modules)
        self.causal = any(m.causal for m in modules)
        self.unweighable = next((m.unweighable for m in modules if m.unweighable is not None), None)
        self.dimension = modules[0].dimension
        self.part = nn.ModuleDict({str(n): module for n, module in parts.items()})
        # Past nn.Module's bookkeeping: what writes at one of two places is no child of its own.
        self.__dict__["_by_place"] = {
            where: UnionModule({n: m for n, m in parts.items() if m.writes == where})
            for where in dict.fromkeys(m.writes for m in modules)
            if len({m.writes for m in modules}) > 1
        }

    @property
    def parts(self) -> Mapping[int, AdapterModule]:
        return {int(n): module for n, module in self.part.items()}  # type: ignore[misc]

    def set_trainable(self, trainable: bool) -> None:
        self.trainable = trainable
        for module in self.parts.values():
            module.set_trainable(trainable)

    def writing(self, where: str) -> AdapterModule | None:
        if not self.__dict__["_by_place"]:
            return super().writing(where)
        found: AdapterModule | None = self.__dict__["_by_place"].get(where)
        return found

    @property
    def random(self) -> bool:
        return any(module.random for module in self.parts.values())

    @property
    def banked(self) -> bool:
        plain = all(m.banked and m.foldable and not m.has_randomness for m in self.parts.values())
        return plain and not self.also_reads

    @property
    def foldable(self) -> bool:
        return self.banked

    def segments(self) -> tuple[Segment, ...]:
        return tuple(segment for module in self.parts.values() for segment in module.segments())

    def readout(self) -> tuple[Tensor, Tensor | None]:
        ups, constants = zip(*(module.readout() for module in self.parts.values()), strict=True)
        there = [c for c in constants if c is not None]
        return torch.cat(ups, dim=1), sum(there[1:], there[0]) if there else None

    def forward(self, read: Tensor, context: Context, *also: Tensor) -> Tensor:
        reads = dict(zip((self.reads, *self.also_reads), (read, *also), strict=True))
        total: Tensor | None = None
        for module in self.parts.values():
            more = [reads[role] for role in module.also_reads]
            delta: Tensor = module(reads[module.reads], context, *more)
            total = delta if total is None else total + delta.to(total.dtype)
        assert total is not None
        return total
