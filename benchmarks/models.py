"""The model that is measured: BERT blocks of BERT-base's size, four of them, random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

HIDDEN, LAYERS, SEQUENCE, BATCH, REDUCTION, VOCABULARY = 768, 4, 128, 8, 16, 1000


def bare(width: int = HIDDEN) -> nn.Module:
    """The bare model, in eval mode; of another width where calls of Python are measured, and no products."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=LAYERS,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        vocab_size=VOCABULARY,
    )
    return BertModel(config, add_pooling_layer=False).eval()


def batch() -> Tensor:
    """Token ids ``(batch, positions)``."""
    return torch.randint(0, VOCABULARY, (BATCH, SEQUENCE), generator=torch.Generator().manual_seed(1))


def described() -> str:
    """The sizes, in words."""
    return f"BERT {LAYERS} layers, width {HIDDEN}, batch {BATCH} x {SEQUENCE}, reduction {REDUCTION}, float32"
