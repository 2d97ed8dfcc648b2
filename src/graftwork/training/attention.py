"""Where a fusion looks: its attention, averaged over the rows of a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from graftwork.api import Adapters
from graftwork.compose import names_in
from graftwork.tasks import Kind
from graftwork.training.encoding import batch_of
from graftwork.training.outputs import evaluating


def mean_attention(
    grafts: Adapters,
    fusion: str,
    kind: Kind,
    features: Sequence[dict[str, Any]],
    processor: Any,
    batch_size: int,
    autocast: Callable[[], Any],
    most: int = 512,
) -> dict[str, Any]:
    """The mean attention of an active fusion over unpadded positions.

    Args:
        grafts: The handle.
        fusion: The fusion's name.
        kind: Of the task.
        features: Of the rows to look at; at most ``most`` are.
        processor: What they were made with.
        batch_size: Features a batch.
        autocast: Makes the context that the model runs in.
        most: How many features are looked at.

    Returns:
        ``{"adapters": [names], "sites": {key: [a weight for each adapter, 1 in all]}}``.
    """
    model: Any = grafts.model
    sums: dict[str, Tensor] = {}
    counts: dict[str, float] = {}
    with evaluating(model):
        for start in range(0, min(len(features), most), batch_size):
            batch = batch_of(model, kind, features[start : start + batch_size], processor)
            with autocast():
                weights = grafts.fusion_weights(**batch).get(fusion, {})
            for site, weight in weights.items():
                mask = _mask(weight, batch)
                sums[site] = sums.get(site, 0) + (weight.double() * mask.unsqueeze(-1)).flatten(0, -2).sum(0).cpu()
                counts[site] = counts.get(site, 0.0) + float(mask.sum())
    mean = {site: [round(float(v), 6) for v in total / counts[site]] for site, total in sums.items()}
    return {"adapters": list(names_in(grafts.fusions[fusion])), "sites": mean}


def _mask(weight: Tensor, batch: dict[str, Tensor]) -> Tensor:
    for name in ("attention_mask", "decoder_attention_mask"):
        mask = batch.get(name)
        if mask is not None and mask.shape == weight.shape[:2]:
            return mask.double()
    return torch.ones(weight.shape[:-1], dtype=torch.float64, device=weight.device)
