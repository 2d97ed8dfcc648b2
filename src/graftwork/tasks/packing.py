"""Several rows behind one another in a block, none of which sees another: fewer positions are padding.

Positions are counted anew for each row, and the mask is ``(batch, 1, positions, positions)``, block-diagonal and causal: a model
that takes both computes of each row what it computes of the row alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graftwork.tasks.batches import IGNORED, pad

Feature = dict[str, Any]


def packed(features: Sequence[Feature], limit: int) -> list[Feature]:
    """Blocks of features in their order, each of at most ``limit`` tokens unless a feature alone has more.

    Args:
        features: Features with ``"input_ids"`` and ``"labels"``, whose first label is -100.
        limit: The most tokens of a block.

    Returns:
        Features with the tokens and the labels of several, and ``"rows"``, the number of tokens of each.
    """
    blocks: list[Feature] = []
    for feature in features:
        ids, labels = feature["input_ids"], feature["labels"]
        if not blocks or len(blocks[-1]["input_ids"]) + len(ids) > limit:
            blocks.append({"input_ids": [], "labels": [], "rows": []})
        blocks[-1]["input_ids"] += ids
        blocks[-1]["labels"] += [IGNORED, *labels[1:]]
        blocks[-1]["rows"].append(len(ids))
    return blocks


def block_batch(features: Sequence[Feature], padding: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The inputs of a model for some blocks.

    Args:
        features: Blocks of `packed`.
        padding: The token that shorter blocks are padded with.
        dtype: That of the mask: 0 where a position is seen, else the lowest number.
    """
    ids = pad([feature["input_ids"] for feature in features], padding)
    positions = pad([[n for size in feature["rows"] for n in range(size)] for feature in features], 0)
    # padding is a row of its own: a position that sees nothing would be no number
    row = pad([[n for n, size in enumerate(feature["rows"]) for _ in range(size)] for feature in features], -1)
    size = ids.shape[1]
    seen = (row[:, :, None] == row[:, None, :]) & torch.ones(size, size, dtype=torch.bool).tril()
    mask = torch.zeros(len(features), 1, size, size, dtype=dtype)
    return {
        "input_ids": ids,
        "position_ids": positions,
        "attention_mask": mask.masked_fill(~seen[:, None], torch.finfo(dtype).min),
    }
