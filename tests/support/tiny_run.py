"""A whole run small enough for a test: a tiny BERT, two tasks of made-up sentences, a recipe with every control."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "good bad fine awful nice the a film was is not very plot actor scene".split()
RECIPE = """
targets = ["a"]
copies = 2

[base]
model = "base"
max_length = 16

[adapter]
reduction_factor = 4

[tasks.a]
data = "a"
pooling = "mean"

[tasks.b]
data = "b"
pooling = "mean"

[training]
epochs = 3
patience = 2
batch_size = 16
learning_rate = 1e-2
fusion = {learning_rate = 1e-2}
full = {learning_rate = 1e-3}
"""


def make_tiny(folder: Path, recipe: str = RECIPE) -> Path:
    """Write base, data and recipe into a folder; gives the recipe's path."""
    make_base(folder / "base")
    draw = random.Random(0)
    for task in ("a", "b"):
        (folder / task).mkdir(parents=True, exist_ok=True)
        for split, count in (("train", 48), ("dev", 20)):
            rows = [make_row(draw) for _ in range(count)]
            (folder / task / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.toml"
    path.write_text(recipe)
    return path


def make_base(folder: Path) -> None:
    """A tiny BERT with its tokenizer."""
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*SPECIAL, *WORDS])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    named = dict(zip("pad unk cls sep mask".split(), SPECIAL, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **{f"{k}_token": v for k, v in named.items()})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(SPECIAL) + len(WORDS), initializer_range=0.2, **size)).save_pretrained(folder)


def make_row(draw: random.Random) -> dict[str, str]:
    """A sentence, and whether a good word is in it."""
    words = [draw.choice(WORDS) for _ in range(draw.randint(3, 9))]
    return {"text": " ".join(words), "label": "pos" if {"good", "nice", "fine"} & set(words) else "neg"}
