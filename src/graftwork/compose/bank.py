"""The bank: several banked adapters of one site as two stacked products.

All members' features come from one product for each distinct read, and one product with the stacked up-projections
reads out any mix of them. Nothing of width N · d is ever made. The stacked weights are kept while nothing that they
were made of has changed, and remade in the graph while members learn.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftwork.compose.reads import Reads
from graftwork.methods.layers.activations import activation
from graftwork.methods.layers.contract import AdapterModule, cast
from graftwork.methods.layers.weight_cache import WeightCache


class Stacked:
    """The stacked weights of a bank: ``downs`` one ``(D, b)`` a group of equal read and activation, U ``(d, R)``, C ``(N, d)``."""

    def __init__(self, downs: list[tuple[Tensor, Tensor | None]], up: Tensor, constants: Tensor | None) -> None:
        self.downs = downs
        self.up = up
        self.constants = constants


class Bank:
    """Banked adapters at one site.

    Features are laid out group by group, and within a group member by member; `owner` says whose each feature is.
    """

    def __init__(self, members: Sequence[AdapterModule]) -> None:
        self.members = list(members)
        groups: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
        for n, member in enumerate(self.members):
            column = 0
            for k, segment in enumerate(member.segments()):
                groups.setdefault((member.reads, segment.activation), []).append((n, k, column))
                column += segment.down.shape[0]
        self.groups = groups
        sizes = [(n, self.members[n].segments()[k].down.shape[0]) for runs in groups.values() for n, k, _ in runs]
        self.runs = sizes
        self.rank = (
            sizes[0][1]
            if len({r for _, r in sizes}) == 1 and [n for n, _ in sizes] == list(range(len(members)))
            else None
        )
        self.foldable = all(m.foldable for m in self.members)
        self.drawing = [m for m in self.members if m.has_randomness]
        self._owner: dict[torch.device, Tensor] = {}
        self.kept = WeightCache(self._stack)

    @property
    def stackable(self) -> bool:
        """Whether the features are those of the plain reads now: no norm in front, no gate, no dropout at work."""
        return self.foldable and not any(m.random for m in self.drawing)

    def weights(self) -> list[Tensor]:
        """Every weight of the members."""
        return [p for m in self.members for p in m.weights()]

    def _stack(self) -> Stacked:
        segments = [m.segments() for m in self.members]
        readouts = [m.readout() for m in self.members]
        downs: list[tuple[Tensor, Tensor | None]] = []
        ups: list[Tensor] = []
        for runs in self.groups.values():
            parts = [segments[n][k] for n, k, _ in runs]
            down = _cat([p.down for p in parts])
            if all(p.bias is None for p in parts):
                downs.append((down, None))
            else:
                downs.append(
                    (down, _cat([p.down.new_zeros(p.down.shape[0]) if p.bias is None else p.bias for p in parts]))
                )
            ups += [
                readouts[n][0][:, column : column + p.down.shape[0]]
                for (n, _, column), p in zip(runs, parts, strict=True)
            ]
        constants = None
        if any(c is not None for _, c in readouts):
            constants = torch.stack([up.new_zeros(up.shape[0]) if c is None else c for up, c in readouts])
        return Stacked(downs, _cat(ups, dim=1), constants)

    def stacked(self) -> Stacked:
        """The stacked weights as they are now."""
        return self.kept.get(self.weights())

    def features(self, reads: Reads, stacked: Stacked) -> Tensor:
        """All members' features ``(batch, positions, R)``."""
        if self.stackable:
            parts = []
            for (role, name), (down, bias) in zip(self.groups, stacked.downs, strict=True):
                read = reads.get(role)
                parts.append(activation(name)(nn.functional.linear(read, cast(down, read), cast(bias, read))))
            return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        own = [m.features(reads.get(m.reads)) for m in self.members]
        columns = [
            own[n][..., column : column + self.members[n].segments()[k].down.shape[0]]
            for runs in self.groups.values()
            for n, k, column in runs
        ]
        return columns[0] if len(columns) == 1 else torch.cat(columns, dim=-1)

    def gains(self, reads: Reads) -> Tensor | None:
        """The members' own factors ``(batch, positions or 1, N)``, or ``None`` where all are 1."""
        if self.stackable:
            return None
        own = [m.gain(reads.get(m.reads), reads.around) for m in self.members]
        if all(g is None for g in own):
            return None
        shape = torch.broadcast_shapes(*(g.shape for g in own if g is not None))
        first = next(g for g in own if g is not None)
        return torch.cat([first.new_ones(shape) if g is None else g.expand(shape) for g in own], dim=-1)

    def owner(self, device: torch.device) -> Tensor:
        """Whose each feature is, ``(R,)``."""
        if device not in self._owner:
            with torch.inference_mode(False):  # kept, and used under autograd later
                self._owner[device] = torch.tensor([n for n, r in self.runs for _ in range(r)], device=device)
        return self._owner[device]

    def spread(self, weights: Tensor, features: Tensor) -> Tensor:
        """Features weighted by their member: weights ``(…, N)``, features ``(…, R)``."""
        weights = weights.to(features.dtype)
        if self.rank is not None:
            shaped = features.unflatten(-1, (len(self.members), self.rank))
            return (shaped * weights.unsqueeze(-1)).flatten(-2)
        return features * weights.index_select(-1, self.owner(features.device))

    def gather(self, per_feature: Tensor) -> Tensor:
        """Sums over each member's features: ``(…, R)`` to ``(…, N)``."""
        if self.rank is not None:
            return per_feature.unflatten(-1, (len(self.members), self.rank)).sum(-1)
        zeros = per_feature.new_zeros((*per_feature.shape[:-1], len(self.members)))
        return zeros.index_add(-1, self.owner(per_feature.device), per_feature)

    def mix(self, weights: Tensor | None, features: Tensor, stacked: Stacked) -> Tensor:
        """``Σ_n w_n (U_n a_n + c_n)``: weights ``(…, N)`` or ``(N,)``, ``None`` for ones; features ``(…, R)`` to ``(…, d)``."""
        spread = features if weights is None else self.spread(weights, features)
        mixed = nn.functional.linear(spread, cast(stacked.up, features))
        if stacked.constants is None:
            return mixed
        constants = cast(stacked.constants, mixed)
        return mixed + (constants.sum(0) if weights is None else weights.to(mixed.dtype) @ constants)

    def scaled(self, stacked: Stacked, scales: Tensor) -> Stacked:
        """The weights with each member's output scaled, ``(N, d)`` or ``(N, 1)``: ``ω_n ⊙ (U_n a_n + c_n)``."""
        by_feature = scales.index_select(0, self.owner(scales.device)).t()
        return Stacked(
            stacked.downs,
            stacked.up * by_feature,
            None if stacked.constants is None else stacked.constants * scales,
        )


def _cat(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)
