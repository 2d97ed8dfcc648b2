"""Texts as vectors to compare them by: the mean of the plain base's last hidden states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.api import Adapters
from graftwork.errors import ConfigError
from graftwork.heads.pooling import pool
from graftwork.training.outputs import evaluating

_ENDLESS = 1_000_000  # tokenizers that do not know the model's length have a number like 10^30


@torch.no_grad()
def text_states(
    adapters: Adapters, texts: Sequence[str], tokenizer: Any, batch_size: int = 32, *, max_length: int | None = None
) -> Tensor:
    """The plain base's last hidden states (its encoder's, where it has one), averaged over each text: ``(texts, width)``.

    Args:
        adapters: The handle of the model; no adapter is active in the pass.
        texts: The texts.
        tokenizer: The base's tokenizer.
        batch_size: Texts a batch.
        max_length: The most tokens of a text, if less than the tokenizer's own limit; longer texts are cut.

    Raises:
        ConfigError: If there are no texts, or the tokenizer cannot pad them.
    """
    if isinstance(texts, str) or not isinstance(texts, Iterable) or not list(texts):
        raise ConfigError(f"texts is {texts!r}; give a list with one text or more")
    if getattr(tokenizer, "pad_token", None) is None:
        raise ConfigError("the tokenizer has no pad_token, and texts of a batch differ in length; give it one")
    own = getattr(tokenizer, "model_max_length", None) or _ENDLESS
    limits = [int(limit) for limit in (own, max_length) if limit is not None and limit < _ENDLESS]
    limit = min(limits, default=None)
    options = {"padding": True, "truncation": limit is not None, "max_length": limit, "return_tensors": "pt"}
    every, found = list(texts), []
    model = _bare(adapters.model)
    device = next(adapters.model.parameters()).device
    with evaluating(adapters.model), adapters.using(None):
        for start in range(0, len(every), batch_size):
            batch = tokenizer(every[start : start + batch_size], **options).to(device)
            outputs = model(**batch)
            states = outputs["last_hidden_state"] if hasattr(outputs, "keys") else outputs[0]
            found.append(pool(states.float(), batch, "mean").cpu())
    return torch.cat(found)


def _bare(model: nn.Module) -> nn.Module:
    """The model without its head; only the encoder of an encoder-decoder."""
    inner: Any = model
    while isinstance(base := getattr(inner, "base_model", None), nn.Module) and base is not inner:
        inner = base
    encodes = getattr(getattr(inner, "config", None), "is_encoder_decoder", False)
    return inner.get_encoder() if encodes else inner  # type: ignore[no-any-return]
