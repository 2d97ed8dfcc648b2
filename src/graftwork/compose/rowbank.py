"""Rows with different adapters in one batched product: each row is multiplied with its own adapter's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graftwork.compose.reads import Reads
from graftwork.compose.rows import merge
from graftwork.methods.layers.activations import activation
from graftwork.methods.layers.contract import AdapterModule, cast
from graftwork.methods.layers.weight_cache import WeightCache


class RowBank:
    """Adapters of equal shape, read and activation, stacked so that a row can pick its own."""

    def __init__(self, members: Sequence[AdapterModule]) -> None:
        self.members = list(members)
        self.kept = WeightCache(self._stack)

    @classmethod
    def of(cls, modules: Sequence[AdapterModule | None]) -> list[tuple[RowBank, dict[int, int]]]:
        """Banks for those modules that are not the only one of their kind, each with child number → place in the bank."""
        groups: dict[object, dict[int, AdapterModule]] = {}
        for child, module in enumerate(modules):
            if module is not None and module.foldable and len(module.segments()) == 1:
                segment = module.segments()[0]
                signature = (module.reads, segment.activation, segment.down.shape, segment.bias is None)
                groups.setdefault(signature, {})[child] = module
        banks = []
        for group in groups.values():
            distinct = list({id(m): m for m in group.values()}.values())
            if len(distinct) > 1:
                place = {id(m): n for n, m in enumerate(distinct)}
                banks.append((cls(distinct), {child: place[id(m)] for child, m in group.items()}))
        return banks

    def _stack(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        segments = [m.segments()[0] for m in self.members]
        readouts = [m.readout() for m in self.members]
        bias = None if segments[0].bias is None else torch.stack([s.bias for s in segments])  # type: ignore[misc]
        constants = None
        if any(c is not None for _, c in readouts):
            constants = torch.stack([up.new_zeros(up.shape[0]) if c is None else c for up, c in readouts])
        return torch.stack([s.down for s in segments]), bias, torch.stack([up for up, _ in readouts]), constants

    def stacked(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """D ``(N, r, d)``, b ``(N, r)``, U ``(N, d, r)`` and c ``(N, d)`` as they are now; b and c ``None`` where there is none."""
        return self.kept.get([p for m in self.members for p in m.weights()])

    def __call__(self, reads: Reads, places: Sequence[int]) -> Tensor:
        """The additions of rows whose adapters stand at ``places``, one a row in hand."""
        read = reads.get(self.members[0].reads)
        if any(m.random for m in self.members):
            return self._apart(reads, places)
        downs, biases, ups, constants = self.stacked()
        if list(places) != list(range(len(self.members))):  # else each row has its own, in order, and nothing is copied
            pick = torch.tensor(list(places), device=read.device)
            downs, ups = downs[pick], ups[pick]
            biases, constants = (None if t is None else t[pick] for t in (biases, constants))
        grouped = read.reshape(len(places), -1, read.shape[-1])
        features = grouped @ cast(downs, read).transpose(1, 2)
        if biases is not None:
            features = features + cast(biases, features)[:, None]
        features = activation(self.members[0].segments()[0].activation)(features)
        delta = features @ cast(ups, features).transpose(1, 2)
        if constants is not None:
            delta = delta + cast(constants, delta)[:, None]
        return delta.reshape(*read.shape[:-1], delta.shape[-1])

    def _apart(self, reads: Reads, places: Sequence[int]) -> Tensor:
        """With randomness at work each adapter draws its own: one after another."""
        parts = []
        for place, member in enumerate(self.members):
            rows = tuple(row for row, owner in enumerate(places) if owner == place)
            if rows:
                chosen = reads.rows(rows)
                parts.append((rows, member(chosen.get(member.reads), chosen.around)))
        merged = merge(parts, reads.value, len(places))
        assert merged is not None
        return merged
