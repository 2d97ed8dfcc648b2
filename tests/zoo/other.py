"""Models of the zoo that are not transformers' own: plain PyTorch, sentence-transformers."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from torch import nn

from tests.zoo.encoders import COMMON
from tests.zoo.inputs import hidden, text
from tests.zoo.registry import AF, VOCAB, WIDTH, Expected, Unavailable, register

Built = tuple[nn.Module, dict[str, Any], Expected]


def _torch_encoder(generator: torch.Generator, *, norm_first: bool) -> Built:
    layer = nn.TransformerEncoderLayer(WIDTH, 4, dim_feedforward=48, batch_first=True, norm_first=norm_first)
    norm = nn.LayerNorm(WIDTH) if norm_first else None
    model = nn.TransformerEncoder(layer, 2, norm=norm, enable_nested_tensor=False)
    padding = text(generator)["attention_mask"] == 0
    inputs = {"src": hidden(generator), "src_key_padding_mask": padding}
    return model, inputs, Expected({"layers": (2, AF)}, "pre" if norm_first else "post")


@register("torch_encoder_pre")
def torch_encoder_pre(generator: torch.Generator) -> Built:
    """`torch.nn.TransformerEncoder`, pre-norm."""
    return _torch_encoder(generator, norm_first=True)


@register("torch_encoder_post")
def torch_encoder_post(generator: torch.Generator) -> Built:
    """`torch.nn.TransformerEncoder`, post-norm."""
    return _torch_encoder(generator, norm_first=False)


@register("sentence_transformer")
def sentence_transformer(generator: torch.Generator) -> Built:
    """A `SentenceTransformer`, which is a Sequential: a tiny BERT and mean pooling."""
    try:
        from sentence_transformers import SentenceTransformer

        if importlib.util.find_spec("sentence_transformers.sentence_transformer") is None:  # before 5.4
            from sentence_transformers.models import Pooling, Transformer
        else:
            from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    except ImportError as error:
        raise Unavailable(f"sentence-transformers cannot be imported: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
        words = [*special, *(chr(ord("a") + k % 26) * (k // 26 + 1) for k in range(VOCAB - len(special)))]
        vocab = Path(folder, "vocab.txt")
        vocab.write_text("\n".join(words), encoding="utf-8")
        hf.BertTokenizer(str(vocab)).save_pretrained(folder)
        hf.BertModel(hf.BertConfig(**COMMON)).save_pretrained(folder)
        transformer = Transformer(folder)
    model = SentenceTransformer(modules=[transformer, Pooling(WIDTH, pooling_mode="mean")], device="cpu")
    path = next(name for name, module in model.named_modules() if isinstance(module, hf.BertModel))
    return model, {"input": text(generator)}, Expected({f"{path}.encoder.layer": (2, AF)}, "post")
