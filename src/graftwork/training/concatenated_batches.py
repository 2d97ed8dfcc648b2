"""Batches of several tasks concatenated, for one forward pass over the rows of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.errors import TrainingError

_IGNORED = -100  # the label that losses ignore


def merged(
    batches: Mapping[str, Mapping[str, Tensor]], padding: Mapping[str, int]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The inputs of several tasks' batches as one batch, and the labels of each task.

    Args:
        batches: The batch of each task: inputs ``(rows, positions, …)``, and perhaps ``"labels"``.
        padding: The value that each input is padded with to the most positions; 0 by default.

    Raises:
        TrainingError: If the tasks give the model different inputs.
    """
    keys = {name: set(batch) - {"labels"} for name, batch in batches.items()}
    first, *others = keys
    for other in others:
        if keys[other] != keys[first]:
            one, two = (", ".join(sorted(keys[name])) for name in (first, other))
            raise TrainingError(
                f"{first!r} and {other!r} cannot be computed in one pass: the model is given {one} for the one and {two} for "
                "the other"
            )
    inputs = {}
    for key in sorted(keys[first]):
        parts = [batch[key] for batch in batches.values()]
        if all(part.dim() == 2 for part in parts):
            longest = max(part.shape[1] for part in parts)
            parts = [_padded(part, longest, padding.get(key, 0)) for part in parts]
        inputs[key] = torch.cat(parts)
    labels = {name: batch["labels"] for name, batch in batches.items() if "labels" in batch}
    for name, values in labels.items():
        if "input_ids" in inputs and values.shape == batches[name]["input_ids"].shape:  # a label for each position
            labels[name] = _padded(values, inputs["input_ids"].shape[1], _IGNORED)
    return inputs, labels


def _padded(values: Tensor, length: int, padding: int) -> Tensor:
    missing = length - values.shape[1]
    return nn.functional.pad(values, (0, missing), value=padding) if missing else values


def padding_of(processor: Any) -> dict[str, int]:
    """The value that each input is padded with, by the input's name."""
    number = getattr(processor, "pad_token_id", None)
    return {"input_ids": 0 if number is None else int(number)}
