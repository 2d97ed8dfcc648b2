"""The mean attention of a fusion, and a smaller fusion of the adapters with most of it (Rücklé et al. 2021, arXiv:2010.11918)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from graftwork.attach.handle import Handle
from graftwork.compose import Composition, Fuse, LearnedConfig
from graftwork.errors import CompositionError
from graftwork.weights.names import unknown


@dataclasses.dataclass(frozen=True)
class Pruned:
    """What `prune_fusion` made, printable.

    Attributes:
        block: The smaller fusion.
        attention: The mean attention to each child of the whole pool, in its order; adds up to 1.
        kept: The places in the whole pool of the children that are kept.
        pool: The whole pool.

    Example:
        >>> adapters.add_fusion(gw.Fuse("a", "b", name="ab"))
        >>> pruned = adapters.prune_fusion("ab", [batch], keep=1)
        >>> adapters.active = pruned.block
        >>> len(pruned.kept), len(pruned.attention)
        (1, 2)
    """

    block: Fuse
    attention: tuple[float, ...]
    kept: tuple[int, ...]
    pool: Fuse

    def __str__(self) -> str:
        rows = [
            f"{child!s:20s} {share:7.2%}{'' if n in self.kept else '  left out'}"
            for n, (child, share) in enumerate(zip(self.pool.children, self.attention, strict=True))
        ]
        return "\n".join([repr(self.block), *rows])


def mean_attention(handle: Handle, fusion: str, batches: Iterable[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The mean attention of an active fusion over the unpadded positions of batches: ``(adapters,)`` in float64 for each site."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, float] = {}
    for batch in batches:
        for site, weight in handle.fusion_weights(**batch).get(fusion, {}).items():
            mask = _mask(weight, batch)
            sums[site] = sums.get(site, 0) + (weight.double() * mask.unsqueeze(-1)).flatten(0, -2).sum(0).cpu()
            counts[site] = counts.get(site, 0.0) + float(mask.sum())
    return {site: total / counts[site] for site, total in sums.items()}


def prune(
    handle: Handle, fusion: str, batches: Iterable[Mapping[str, Any]], keep: int, name: str | None, active: Composition
) -> Pruned:
    """The smaller fusion and the attention; see `graftwork.Adapters.prune_fusion`."""
    if fusion not in handle.fusions:
        raise unknown(fusion, handle.fusions, "fusion")
    pool = handle.fusions[fusion]
    if not isinstance(pool, Fuse):
        raise CompositionError(f"{pool!r} has weights for each of its pool; prune_fusion takes the name of a Fuse")
    if not isinstance(keep, int) or isinstance(keep, bool) or not 1 <= keep <= len(pool.children):
        raise CompositionError(
            f"keep is {keep!r}; the pool of {fusion!r} has {len(pool.children)} adapters, keep 1 or more"
        )
    model, training = handle.model, handle.model.training
    model.eval()
    try:
        with handle.using(pool if active is None else active):
            by_site = mean_attention(handle, fusion, batches)
    finally:
        model.train(training)
    if not by_site:
        raise CompositionError(
            f"the fusion {fusion!r} took part in no batch; give some batches, and active= what it is in"
        )
    shares = {tuple(weight.shape) for weight in by_site.values()}
    if shares != {(len(pool.children),)}:
        raise CompositionError(f"{active!r} has another pool under the name {fusion!r} than {pool!r}, which was added")
    attention = torch.stack(list(by_site.values())).mean(0)
    kept = tuple(sorted(attention.argsort(descending=True, stable=True)[:keep].tolist()))
    block = Fuse(*(pool.children[n] for n in kept), name=name or fusion, norms=pool.options["norms"])
    if name is not None and name != fusion:
        config = handle.config(fusion)
        assert isinstance(config, LearnedConfig)
        handle.add_fusion(block, config, head_from=fusion if handle.labels(fusion) is not None else None)
        sources = handle.modules_of(fusion)
        for site, module in handle.modules_of(name).items():
            module.load_state_dict(sources[site].state_dict())
    return Pruned(block, tuple(attention.tolist()), kept, pool)


def _mask(weight: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """A weight for each position: 0 where it is padding, else 1."""
    for key in ("attention_mask", "decoder_attention_mask"):
        mask = batch.get(key)
        if isinstance(mask, Tensor) and mask.shape == weight.shape[:-1]:
            return mask.to(weight.device).double()
    return torch.ones(weight.shape[:-1], dtype=torch.float64, device=weight.device)
