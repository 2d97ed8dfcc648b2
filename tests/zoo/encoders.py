"""Text encoders of the zoo."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from torch import nn

from tests.zoo.inputs import text
from tests.zoo.registry import AF, PAD, VOCAB, WIDTH, Expected, register

Built = tuple[nn.Module, dict[str, Any], Expected]
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": PAD,
}
POST = Expected({"encoder.layer": (2, AF)}, "post")


@register("bert")
def bert(generator: torch.Generator) -> Built:
    """Devlin et al. 2019: post-norm, learned positions."""
    return hf.BertModel(hf.BertConfig(**COMMON)), text(generator), POST


@register("bert_classifier")
def bert_classifier(generator: torch.Generator) -> Built:
    """BERT with a pooler and a classification head over three labels."""
    model = hf.BertForSequenceClassification(hf.BertConfig(**COMMON, num_labels=3))
    return model, text(generator), Expected({"bert.encoder.layer": (2, AF)}, "post")


@register("roberta")
def roberta(generator: torch.Generator) -> Built:
    """BERT's layers; position ids made from the padding mask."""
    return hf.RobertaModel(hf.RobertaConfig(**COMMON)), text(generator), POST


@register("distilbert")
def distilbert(generator: torch.Generator) -> Built:
    """Sanh et al. 2019: BERT's layers under other names."""
    config = hf.DistilBertConfig(
        vocab_size=VOCAB, dim=WIDTH, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40, pad_token_id=PAD
    )
    return hf.DistilBertModel(config), text(generator), Expected({"transformer.layer": (2, AF)}, "post")


@register("albert")
def albert(generator: torch.Generator) -> Built:
    """Lan et al. 2020: one layer called three times, a factorised embedding."""
    config = hf.AlbertConfig(**{**COMMON, "num_hidden_layers": 3}, embedding_size=16)
    stack = "encoder.albert_layer_groups.0.albert_layers"
    return hf.AlbertModel(config), text(generator), Expected({stack: (3, AF)}, "post")


@register("electra")
def electra(generator: torch.Generator) -> Built:
    """Clark et al. 2020: BERT's layers, embeddings of another width."""
    return hf.ElectraModel(hf.ElectraConfig(**COMMON, embedding_size=16)), text(generator), POST


@register("deberta_v2")
def deberta_v2(generator: torch.Generator) -> Built:
    """He et al. 2021: disentangled attention over relative positions, and the convolution beside the first layer."""
    config = hf.DebertaV2Config(
        **COMMON,
        relative_attention=True,
        position_buckets=8,
        max_relative_positions=-1,
        pos_att_type=["p2c", "c2p"],
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        type_vocab_size=0,
    )
    return hf.DebertaV2Model(config), text(generator), POST


@register("modernbert")
def modernbert(generator: torch.Generator) -> Built:
    """Warner et al. 2024: pre-norm, rotary, gated feed-forward, local and global attention."""
    special = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    config = hf.ModernBertConfig(**COMMON, **special, local_attention=4, global_attn_every_n_layers=2)
    return hf.ModernBertModel(config), text(generator), Expected({"layers": (2, AF)}, "pre")


@register("mpnet")
def mpnet(generator: torch.Generator) -> Built:
    """Song et al. 2020: BERT's layers with one relative position bias for all."""
    return hf.MPNetModel(hf.MPNetConfig(**COMMON)), text(generator), POST
