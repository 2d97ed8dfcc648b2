"""Where a fusion looks: its attention, averaged over the rows of a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graftwork.api import Adapters
from graftwork.attach import mean_attention as attention_by_site
from graftwork.compose import names_in
from graftwork.tasks import Kind
from graftwork.training.encoding import batch_of
from graftwork.training.outputs import evaluating


def mean_attention(
    adapters: Adapters,
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
        adapters: The handle.
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
    model: Any = adapters.model
    starts = range(0, min(len(features), most), batch_size)
    batches = (batch_of(model, kind, features[start : start + batch_size], processor) for start in starts)
    with evaluating(model), autocast():
        mean = attention_by_site(adapters, fusion, batches)
    sites = {site: [round(float(v), 6) for v in weights] for site, weights in mean.items()}
    return {"adapters": list(names_in(adapters.fusions[fusion])), "sites": sites}
