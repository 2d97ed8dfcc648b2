"""The decoder that is measured: a Llama of the sizes of SmolLM2-135M, random weights, and its steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Step

LAYERS, VOCABULARY, PROMPT, TOKENS = 30, 49152, 64, 4
FORWARD = (4, 128)  # rows and positions of the forward pass


def bare() -> nn.Module:
    """The bare model, in eval mode."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=576,
        num_hidden_layers=LAYERS,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def batch(rows: int, positions: int) -> Tensor:
    """Token ids ``(rows, positions)``."""
    return torch.randint(0, VOCABULARY, (rows, positions), generator=torch.Generator().manual_seed(1))


def forward(model: Any, rows: int = FORWARD[0], positions: int = FORWARD[1]) -> Step:
    """A forward pass without gradients; returns the logits."""
    ids = batch(rows, positions)

    @torch.no_grad()
    def step() -> Tensor:
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
        return logits

    return step


def decoding(model: Any, rows: int) -> Step:
    """The next `TOKENS` tokens after a prompt, greedily, one call each; returns logits ``(tokens, rows, vocabulary)``."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    ids = batch(rows, PROMPT)
    with torch.no_grad():
        first = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)

    @torch.no_grad()
    def step() -> Tensor:
        token, found = first, []
        for _ in range(TOKENS):
            logits = model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1:]
            found.append(logits[:, 0])
            token = logits.argmax(-1)
        cache.crop(-TOKENS)
        return torch.stack(found)

    return step


@torch.no_grad()
def without_cache(model: Any, decoded: Tensor) -> Tensor:
    """What `decoding` returned, computed from all of its tokens at once."""
    ids = batch(decoded.shape[1], PROMPT)
    first = model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)
    tokens = torch.cat([ids, first, decoded[:-1].argmax(-1).t()], dim=1)
    logits: Tensor = model(input_ids=tokens, use_cache=False).logits[:, -TOKENS:].transpose(0, 1)
    return logits
