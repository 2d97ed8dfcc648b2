"""The model that is measured: BERT blocks of BERT-base's size, four of them, random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

HIDDEN, LAYERS, SEQUENCE, BATCH, REDUCTION, VOCABULARY = 768, 4, 128, 8, 16, 1000


def bare() -> nn.Module:
    """The bare model, in eval mode."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=12,
        intermediate_size=4 * HIDDEN,
        vocab_size=VOCABULARY,
    )
    return BertModel(config, add_pooling_layer=False).eval()


def batch() -> Tensor:
    """Token ids ``(batch, positions)``."""
    return torch.randint(0, VOCABULARY, (BATCH, SEQUENCE), generator=torch.Generator().manual_seed(1))


def described() -> str:
    """The sizes, in words."""
    return f"BERT {LAYERS} layers, width {HIDDEN}, batch {BATCH} x {SEQUENCE}, reduction {REDUCTION}, float32"
