"""Batches of several tasks as one, for one pass of a model over the rows of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.errors import TrainingError

_IGNORED = -100  # what losses pass over


def merged(
    batches: Mapping[str, Mapping[str, Tensor]], padding: Mapping[str, int]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Batches of several tasks as one, and the labels of each by its name.

    Args:
        batches: Of each task: inputs ``(rows, positions, …)``, and ``"labels"`` where there are some.
        padding: What an input is filled up with where its positions are fewer; 0 where not said.

    Raises:
        TrainingError: If the tasks give the model different inputs.
    """
    given = {name: set(batch) - {"labels"} for name, batch in batches.items()}
    first, *others = given
    for other in others:
        if given[other] != given[first]:
            ones, theirs = (", ".join(sorted(given[name])) for name in (first, other))
            raise TrainingError(
                f"{first!r} and {other!r} cannot be computed in one pass: the model is given {ones} for the one and {theirs} for "
                "the other"
            )
    inputs = {}
    for key in sorted(given[first]):
        longest = max(batch[key].shape[1] for batch in batches.values()) if _has_positions(batches, key) else None
        inputs[key] = torch.cat([_filled(batch[key], longest, padding.get(key, 0)) for batch in batches.values()])
    length = max(batch["input_ids"].shape[1] for batch in batches.values()) if "input_ids" in inputs else None
    labels = {}
    for name, batch in batches.items():
        if "labels" not in batch:
            continue
        found = batch["labels"]
        by_position = "input_ids" in batch and found.shape == batch["input_ids"].shape
        labels[name] = _filled(found, length, _IGNORED) if by_position else found
    return inputs, labels


def _has_positions(batches: Mapping[str, Mapping[str, Tensor]], key: str) -> bool:
    return all(batch[key].dim() == 2 for batch in batches.values())


def _filled(values: Tensor, length: int | None, padding: int) -> Tensor:
    short = 0 if length is None else length - values.shape[1]
    return nn.functional.pad(values, (0, short), value=padding) if short else values


def padding_of(processor: Any) -> dict[str, int]:
    """What inputs are filled up with, by their names."""
    number = getattr(processor, "pad_token_id", None)
    return {"input_ids": 0 if number is None else int(number)}
