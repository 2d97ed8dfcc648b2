"""The fusion's function in three exact forms.

Nothing non-linear stands between an adapter's up-projection, K, V and the softmax, so with z_n = U_n a_n + c_n

1. *by outputs*: K moves onto the query, V behind the sum: ``q' = Kᵀ(Q h + b_q)``, ``score_n = q' · z_n``,
   ``o = V Σ w_n z_n``. Serves any child.
2. *by features*: ``score_n = (U_nᵀ q') · a_n + q' · c_n`` and ``Σ w_n z_n = [U_1 … U_N](w ⊗ a) + Σ w_n c_n``. Trainable.
3. *folded*: ``U_nᵀ Kᵀ Q`` and ``V U_n`` are multiplied out first, and no product of d × d is left for each token. With
   everything frozen they are constants; while the fusion learns they are made in the graph, once for all tokens of a
   batch, which pays as soon as there are more tokens than about the width.

The term (Q h + b_q) · b_k is the same for all n and drops out of the softmax, except under dropout on the scores, where
it is added back; so is (Q h + b_q) · K y with ``residual_before``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftwork.compose.bank import Bank, Stacked
from graftwork.compose.fusion.fuse import FusionModule
from graftwork.compose.reads import Reads
from graftwork.methods.layers.activations import activation
from graftwork.methods.layers.contract import cast
from graftwork.methods.layers.weight_cache import WeightCache, in_own_dtype, learn

linear = nn.functional.linear


def wide(values: Tensor) -> Tensor:
    """At least float32: scores and the softmax are computed so whatever the base's dtype."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def fuse(
    fusion: FusionModule,
    reads: Reads,
    bank: Bank | None,
    others: Sequence[Tensor | None],
    order: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """The trainable forms (1 and 2), over banked and other children at once.

    Args:
        fusion: The weights.
        reads: The site.
        bank: The banked children, or ``None``.
        others: The additions of the other children ``(batch, positions, d)``; ``None`` for one that adds nothing.
        order: For each child of the pool its place among the banked (first) and other children.

    Returns:
        The addition ``(batch, positions, d)`` and the attention weights ``(batch, positions, N)`` in the pool's order.
    """
    h = reads.get(fusion.reads)
    q = linear(h, cast(fusion.query_weight, h), cast(fusion.query_bias, h))
    q_key = linear(q, cast(fusion.key_weight, q).t())
    scores: list[Tensor] = []
    if bank is not None:
        stacked = bank.stacked()
        features = bank.features(reads, stacked)
        gains = bank.gains(reads)
        projected = linear(q_key, cast(stacked.up, q_key).t())
        banked = bank.gather(wide(projected) * wide(features))
        if stacked.constants is not None:
            banked = banked + wide(linear(q_key, cast(stacked.constants, q_key)))
        scores.append(banked if gains is None else banked * wide(gains))
    for z in others:
        scores.append(_zero_score(q_key) if z is None else (wide(q_key) * wide(z)).sum(-1, keepdim=True))
    score = torch.cat(scores, dim=-1) if len(scores) > 1 else scores[0]
    score = score + zero_of(fusion)
    if fusion.drops_scores:
        score = score + (wide(q) * wide(cast(fusion.key_bias, q))).sum(-1, keepdim=True)
        if fusion.config.residual_before:
            score = score + (wide(q_key) * wide(reads.get("output"))).sum(-1, keepdim=True)
    pool = list(order)
    inverse = sorted(range(len(pool)), key=pool.__getitem__)
    in_order = pool == sorted(pool)
    if not in_order:  # to the pool's order before the dropout and the softmax, so that masks mean what they say
        score = score[..., pool]
    weights = fusion.weigh(score)
    by_place = weights if in_order else weights[..., inverse]
    count = 0 if bank is None else len(bank.members)
    mixed: Tensor | None = None
    if bank is not None:
        banked_weights = by_place[..., :count]
        mixed = bank.mix(banked_weights if gains is None else banked_weights * wide(gains), features, stacked)
    for n, z in enumerate(others, start=count):
        if z is not None:
            part = by_place[..., n : n + 1].to(z.dtype) * z
            mixed = part if mixed is None else mixed + part
    return _valued(fusion, mixed, weights, reads), weights


def zero_of(fusion: FusionModule) -> Tensor:
    """Zero, with b_k in it: it has no gradient of its own, and data parallel training waits for every parameter's."""
    return 0.0 * wide(fusion.key_bias).sum()


def _zero_score(q_key: Tensor) -> Tensor:
    return wide(q_key.new_zeros((*q_key.shape[:-1], 1)))


def _valued(fusion: FusionModule, mixed: Tensor | None, weights: Tensor, reads: Reads) -> Tensor:
    output = reads.get("output")
    if mixed is None:
        mixed = torch.zeros_like(output) + 0.0 * weights.sum().to(output.dtype)
    if fusion.config.residual_before:
        mixed = mixed + output  # the weights add up to 1
    if fusion.value_delta is not None:
        # V = I + Δ, applied as it is stored: in bfloat16 an I + Δ that was added up first has lost Δ.
        mixed = mixed + linear(mixed, cast(fusion.value_delta, mixed))
    return mixed - output if fusion.config.residual_before else mixed


class Folded:
    """Form 3 for one fusion over one bank at one site, its constants kept until a weight changes."""

    def __init__(self, fusion: FusionModule, bank: Bank) -> None:
        self.fusion = fusion
        self.bank = bank
        self.kept: WeightCache[FoldedWeights] = WeightCache(self._fold)
        self.pinned: FoldedWeights | None = None

    def serving(self, reads: Reads) -> FoldedWeights | None:
        """The constants, where this form gives the function asked for now and is the cheaper one; else ``None``."""
        if not self.bank.stackable or self.fusion.drops_scores:
            return None
        if self.pinned is None and torch.compiler.is_compiling() and not torch.is_grad_enabled():
            return None
        made_of = [] if self.pinned is not None else self._made_of()
        if learn(made_of) and not self._pays(reads.value):
            return None
        return self.weights(made_of)

    def _made_of(self) -> list[Tensor]:
        return [*self.bank.weights(), *self.fusion.parameters()]

    def _pays(self, value: Tensor) -> bool:
        """Whether folding anew for this batch costs less than the trainable form, in multiply-adds.

        With T tokens, width d and R = ρ d features both passes cost (9 + 6ρ) T d² there and 8ρ T d² + 9ρ d³ here; the forward
        alone is about a third of each. Folding happens in float32, so in a narrower dtype the sum is another one, and V − I
        would be rounded away.
        """
        if value.dtype != wide(value).dtype or torch.is_autocast_enabled(value.device.type):
            return False
        width = self.fusion.width
        tokens, share = value.numel() // width, sum(rank for _, rank in self.bank.runs) / width
        return tokens * (9 - 2 * share) > 9 * share * width

    def pin(self) -> None:
        """Fold now and keep the result whatever changes, for compiled models."""
        with torch.no_grad():
            self.pinned = in_own_dtype(self._fold, self._made_of())

    def weights(self, made_of: list[Tensor] | None = None) -> FoldedWeights:
        """The constants; ``made_of`` is what they are made of, where it is known already."""
        if self.pinned is not None:
            return self.pinned
        return self.kept.get(self._made_of() if made_of is None else made_of)

    def _fold(self) -> FoldedWeights:
        fusion, stacked = self.fusion, self.bank.stacked()
        # The widest of the dtypes of all that is folded, and at least float32.
        dtype = functools.reduce(torch.promote_types, (w.dtype for w in self._made_of()), torch.float32)
        up, constants = stacked.up.to(dtype), None if stacked.constants is None else stacked.constants.to(dtype)
        # What K makes of the readouts, and of the constants: narrow, where Qᵀ K would be (d, d).
        outputs = up if constants is None else torch.cat([up, constants.t()], dim=1)
        keys = fusion.key_weight.to(dtype) @ outputs
        key, key_bias = (fusion.query_weight.to(dtype).t() @ keys).t(), fusion.query_bias.to(dtype) @ keys
        value = fusion.value()
        value = None if value is None else value.to(dtype)
        return FoldedWeights(
            self.bank, fusion, stacked, key, key_bias, outputs if value is None else value @ outputs, value
        )

    def __call__(self, reads: Reads, folded: FoldedWeights | None = None) -> tuple[Tensor, Tensor]:
        """The addition ``(batch, positions, d)`` and the attention weights ``(batch, positions, N)``.

        ``folded`` is what `serving` returned, where that was asked before.
        """
        folded = self.weights() if folded is None else folded
        features, key = folded.products(reads)
        count = features.shape[-1]
        score = self.bank.gather(wide(features) * wide(key[..., :count]))
        if key.shape[-1] > count:
            score = score + wide(key[..., count:])
        if torch.is_grad_enabled():
            score = score + zero_of(self.fusion)
        weights = self.fusion.weigh(score)
        mixed = self.bank.spread(weights, features)
        if folded.constants:
            mixed = torch.cat([mixed, weights.to(mixed.dtype)], dim=-1)
        delta = linear(mixed, cast(folded.out, mixed))
        if folded.residual is not None:
            output = reads.get("output")
            delta = delta + linear(output, cast(folded.residual, output))
        return delta, weights


class FoldedWeights:
    """One product for each distinct tensor that is read, the query's columns beside the features' where they coincide."""

    def __init__(
        self,
        bank: Bank,
        fusion: FusionModule,
        stacked: Stacked,
        key: Tensor,
        key_bias: Tensor,
        out: Tensor,
        value: Tensor | None,
    ) -> None:
        self.out = out
        self.constants = stacked.constants is not None
        self.groups = list(bank.groups)
        roles = list(dict.fromkeys([role for role, _ in self.groups] + [fusion.reads]))
        self.query = fusion.reads
        self.inputs: list[tuple[str, Tensor, Tensor, list[int]]] = []
        for role in roles:
            downs = [(d, b) for (r, _), (d, b) in zip(self.groups, stacked.downs, strict=True) if r == role]
            parts = [d for d, _ in downs] + ([key] if role == self.query else [])
            biases = [d.new_zeros(d.shape[0]) if b is None else b for d, b in downs]
            biases += [key_bias] if role == self.query else []
            dtype = key.dtype
            weight, bias = torch.cat([p.to(dtype) for p in parts]), torch.cat([b.to(dtype) for b in biases])
            self.inputs.append((role, weight, bias, [p.shape[0] for p in parts]))
        self.residual: Tensor | None = None
        if fusion.config.residual_before and value is not None:
            self.residual = value - torch.eye(fusion.width, dtype=value.dtype, device=value.device)

    def products(self, reads: Reads) -> tuple[Tensor, Tensor]:
        """The features ``(batch, positions, R)`` in the bank's order, and the query's columns."""
        found: dict[str, list[Tensor]] = {}
        for role, weight, bias, sizes in self.inputs:
            read = reads.get(role)
            found[role] = list(linear(read, cast(weight, read), cast(bias, read)).split(sizes, dim=-1))
        features = [activation(name)(found[role].pop(0)) for role, name in self.groups]
        return features[0] if len(features) == 1 else torch.cat(features, dim=-1), found[self.query].pop(0)
