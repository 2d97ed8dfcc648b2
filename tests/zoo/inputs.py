"""Inputs for tiny models: text with right padding, pixels, audio features."""

from __future__ import annotations

from typing import Any

import torch

from tests.zoo.registry import PAD, VOCAB, WIDTH


def text(generator: torch.Generator, rows: int = 3, length: int = 7, *, mask: bool = True) -> dict[str, Any]:
    """Token ids and an attention mask: the first row is full, the others are padded on the right."""
    ids = torch.randint(4, VOCAB, (rows, length), generator=generator)
    keep = torch.arange(length)[None, :] < torch.tensor([length - row for row in range(rows)])[:, None]
    if not mask:
        return {"input_ids": ids}
    return {"input_ids": ids.masked_fill(~keep, PAD), "attention_mask": keep.long()}


def decoder_ids(generator: torch.Generator, rows: int = 3, length: int = 5) -> torch.Tensor:
    """Token ids for the decoder of an encoder-decoder model, without padding."""
    return torch.randint(4, VOCAB, (rows, length), generator=generator)


def pixels(generator: torch.Generator, rows: int = 2, size: int = 16, channels: int = 3) -> torch.Tensor:
    """Images."""
    return torch.randn(rows, channels, size, size, generator=generator)


def hidden(generator: torch.Generator, rows: int = 3, length: int = 7) -> torch.Tensor:
    """Hidden states, for a model without embeddings."""
    return torch.randn(rows, length, WIDTH, generator=generator)
