"""Pooling: from the states of all positions to one vector a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graftwork.errors import ConfigError

POOLINGS = ("first", "last", "mean")


def pool(states: Tensor, inputs: Mapping[str, Any], how: str) -> Tensor:
    """One vector a row ``(batch, width)``; padding never counts.

    Args:
        states: ``(batch, positions, width)``, or ``(batch, channels, height, width)``, which is always averaged.
        inputs: The inputs of the base; the decoder's mask is used where there is one, else ``attention_mask``.
        how: ``"first"`` or ``"last"`` unpadded position, or the ``"mean"`` of the unpadded positions.

    Raises:
        ConfigError: If the mask has other positions than the states.
    """
    if states.dim() == 4:
        return states.mean((2, 3))
    mask = _mask(states, inputs)
    if mask is None:
        return states.mean(1) if how == "mean" else states[:, 0 if how == "first" else -1]
    if how == "mean":
        weights = mask.to(states.dtype).unsqueeze(-1)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
    positions = torch.arange(states.shape[1], device=states.device)
    beyond = states.shape[1] if how == "first" else -1
    there = torch.where(mask, positions, beyond)
    index = there.amin(1) if how == "first" else there.amax(1)
    index = index.clamp(0, states.shape[1] - 1)  # a row of nothing but padding
    return states[torch.arange(states.shape[0], device=states.device), index]


def _mask(states: Tensor, inputs: Mapping[str, Any]) -> Tensor | None:
    for name in ("decoder_attention_mask", "attention_mask"):
        mask = inputs.get(name)
        if isinstance(mask, Tensor) and mask.shape == states.shape[:2]:
            return mask.to(states.device) != 0
    mask, decoded = inputs.get("attention_mask"), any(name.startswith("decoder_") for name in inputs)
    if isinstance(mask, Tensor) and mask.dim() == 2 and not decoded:
        raise ConfigError(
            f"the base returns states of {tuple(states.shape[:2])} rows and positions, and its attention_mask is "
            f"{tuple(mask.shape)}: which positions are padding is not known, and the head would count them; leave the mask "
            "out and give rows of one length"
        )
    return None
