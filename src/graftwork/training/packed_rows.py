"""Whether a model computes rows behind one another in a block as it computes each alone, as ``packing`` needs."""

from __future__ import annotations

from typing import Any

import torch

from graftwork.attach import ModelWithHeads
from graftwork.errors import GraftworkError, TrainingError
from graftwork.training.encoding import Encoded, batch_of
from graftwork.training.outputs import evaluating

_NEAR = {torch.float64: 1e-9, torch.float32: 1e-3}  # relative to the largest logit; any other dtype is coarser
_COARSE = 0.1


def check_packing(model: ModelWithHeads, encoded: Encoded) -> None:
    """Refuse blocks of several rows where a model, with what is active in it, lets one row see another.

    The rows of the first block are computed in it and alone. Nothing is done for a task without ``packing``.

    Raises:
        TrainingError: If the logits differ, or the model cannot take the positions and the mask of a block.
    """
    task, name = encoded.task, type(model.base).__name__
    if not task.spec.packing:
        return
    way_out = f"task {task.name!r}: packing = true, and {{}}; leave packing out"
    if model.looks_back:
        raise TrainingError(
            way_out.format("an adapter reads other positions, those of other rows of a block among them")
        )
    blocks = [block for block in encoded.features(task.train, train=True) if len(block["rows"]) > 1]
    if not blocks:
        return
    ids, labels, start = blocks[0]["input_ids"], blocks[0]["labels"], 0
    alone: list[dict[str, Any]] = []
    for size in blocks[0]["rows"]:
        alone.append({"input_ids": ids[start : start + size], "labels": labels[start : start + size]})
        start += size
    with evaluating(model), torch.no_grad():
        rows = model(**batch_of(model, task.kind, alone, encoded.processor)).logits
        try:
            block = model(**batch_of(model, task.kind, blocks[:1], encoded.processor)).logits[0]
        except (GraftworkError, RuntimeError, ValueError, TypeError, IndexError) as error:
            raise TrainingError(way_out.format(f"{name} cannot compute a block of several rows: {error}")) from error
    apart = torch.cat([row[:size] for row, size in zip(rows, blocks[0]["rows"], strict=True)])
    far = float((block - apart).abs().max() / apart.abs().max())
    if not far <= _NEAR.get(apart.dtype, _COARSE):
        raise TrainingError(
            way_out.format(
                f"{name} computes a row in a block otherwise than alone (logits differ by {far:.1e} of the largest)"
            )
        )
