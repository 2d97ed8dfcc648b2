"""A task of every kind, small: rows, a tokenizer of their words, a model made from a configuration, perfect outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import AutoModel, BertConfig, GPT2Config, PreTrainedTokenizerFast, T5Config, ViTConfig

from graftwork.heads import Backbone
from graftwork.tasks import Task, TaskSpec

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    "the a cat dog sat ran on under mat house fast slowly red blue big small and or not yes no maybe Anna Berlin Paris Bob "
    "lives in works at Acme who where did ? . , good bad film play un ##believ ##able"
).split()
WIDTH = 16
SURE = 12.0


def tokenizer() -> PreTrainedTokenizerFast:
    """Word pieces of the words above, framed as BERT's; spaces and punctuation part words."""
    vocabulary = {word: n for n, word in enumerate((*SPECIAL, *WORDS))}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    frame = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=frame
    )
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "eos_token": "[SEP]",
    }
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, model_input_names=inputs, **names)


def bert() -> nn.Module:
    """An encoder; dropout off, so that a loss only moves by learning."""
    return AutoModel.from_config(
        BertConfig(
            vocab_size=len(SPECIAL) + len(WORDS),
            hidden_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def gpt2() -> nn.Module:
    """A decoder."""
    sizes = {"n_embd": WIDTH, "n_layer": 1, "n_head": 2, "n_positions": 64}
    return AutoModel.from_config(
        GPT2Config(vocab_size=len(SPECIAL) + len(WORDS), **sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    )


def t5() -> nn.Module:
    """An encoder and a decoder."""
    sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    special = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 3}
    return AutoModel.from_config(T5Config(vocab_size=len(SPECIAL) + len(WORDS), **sizes, **special, dropout_rate=0.0))


def vit() -> nn.Module:
    """An encoder of grey images of 8 x 8."""
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return AutoModel.from_config(ViTConfig(image_size=8, patch_size=4, num_channels=1, **sizes))


def _image(bright: bool) -> list[list[int]]:
    return [[(200 if bright else 20) + row + column for column in range(8)] for row in range(8)]


ROWS: dict[str, list[dict[str, Any]]] = {
    "classification": [
        {"text": "good film", "text_pair": "a good play", "label": "yes"},
        {"text": "bad film", "text_pair": "a bad , bad play .", "label": "no"},
        {"text": "the good dog", "text_pair": "good", "label": "yes"},
        {"text": "the bad cat sat", "text_pair": "bad", "label": "no"},
    ],
    "multi_label": [
        {"text": "big red house", "label": ["big", "red"]},
        {"text": "small blue house", "label": ["small"]},
        {"text": "a house", "label": []},
        {"text": "red", "label": ["red"]},
    ],
    "regression": [
        {"text": "good", "label": 1.0},
        {"text": "bad", "label": -1},
        {"text": "not good and not bad", "label": 0.25},
        {"text": "maybe", "label": 0.0},
    ],
    "tagging": [
        {"tokens": ["Anna", "lives", "in", "Berlin"], "tags": ["B-PER", "O", "O", "B-LOC"]},
        {"tokens": ["unbelievable", "Acme", "Paris"], "tags": ["O", "B-ORG", "I-ORG"]},
        {"tokens": ["Bob"], "tags": ["B-PER"]},
        {"tokens": ["the", "dog", "ran", "unbelievable", "fast"], "tags": ["O", "O", "O", "O", "O"]},
    ],
    "multiple_choice": [
        {"text": "the cat sat on the", "choices": ["mat", "fast", "Anna lives"], "label": 0},
        {"text": "the dog ran", "choices": ["mat", "fast", "who ?"], "label": 1},
        {"text": "Anna lives in", "choices": ["sat", "slowly", "Berlin"], "label": 2},
        {"text": "Bob works at", "choices": ["Acme", "or", "not"], "label": 0},
    ],
    "question_answering": [
        {
            "question": "who lives in Berlin ?",
            "context": "Anna lives in Berlin .",
            "answers": {"text": ["Anna"], "answer_start": [0]},
        },
        {
            "question": "where did Bob sat ?",
            "context": "the dog ran and Bob sat under the big house .",
            "answers": {"text": ["under the big house", "the big house"], "answer_start": [24, 30]},
        },
        {
            "question": "who works at Acme ?",
            "context": "unbelievable , Bob works at Acme",
            "answers": {"text": ["Bob"], "answer_start": [15]},
        },
    ],
    "text_to_text": [
        {"text": "a good film", "target": "yes"},
        {"text": "bad", "target": "no , not good"},
        {"text": "the cat sat", "target": ["the cat ran", "a cat ran"]},
    ],
    "generation": [
        {"prompt": "a good film ?", "target": "yes"},
        {"prompt": "a bad , bad play ?", "target": "no , not good"},
        {"prompt": "the cat sat", "target": ["the cat ran", "a cat ran"]},
    ],
    "masked_lm": [
        {"text": "the cat sat on the mat ."},
        {"text": "the dog ran fast and slowly under the big red house , maybe"},
        {"text": "Anna"},
    ],
    "causal_lm": [{"text": "the cat sat on the mat ."}, {"text": "the dog ran"}, {"text": "Anna lives in Berlin"}],
    "image_classification": [
        {"image": _image(True), "label": "bright"},
        {"image": _image(False), "label": "dark"},
        {"image": _image(True), "label": "bright"},
    ],
}

BASES: dict[str, Callable[[], nn.Module]] = {
    **dict.fromkeys(ROWS, bert),
    "text_to_text": t5,
    "causal_lm": gpt2,
    "generation": gpt2,
    "image_classification": vit,
}


@dataclasses.dataclass
class Tiny:
    """A task of some kind with its processor and its base."""

    task: Task
    processor: Any
    base: nn.Module

    def features(self, **options: Any) -> list[dict[str, Any]]:
        return self.task.features(self.task.train, self.processor, **options)

    def batch(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return self.task.collate(features, self.processor, for_model=self.base)

    def head(self) -> nn.Module:
        embeddings = self.base.get_input_embeddings().weight if self.task.kind.processor == "tokenizer" else None
        return self.task.head().build(Backbone(width=WIDTH, dropout=0.0, std=0.2, embeddings=embeddings))

    def logits(self, head: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        if head.decodes:
            labels = batch["labels"].clamp(min=0)
            inputs["decoder_input_ids"] = torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1]], 1)
        return head(self.base(**inputs).last_hidden_state, inputs)


def tiny(kind: str, **spec: Any) -> Tiny:
    """A task of a kind; its dev rows are its train rows."""
    rows = ROWS[kind]
    spec = {"max_new_tokens": 16, **spec} if kind == "generation" else spec  # the tokenizer allows for 64 tokens in all
    task = Task.from_rows(f"tiny {kind}", TaskSpec(kind=kind, **spec), train=rows, dev=rows)
    return Tiny(task, None if kind == "image_classification" else tokenizer(), BASES[kind]())


def perfect(task: Task, feature: dict[str, Any]) -> torch.Tensor:
    """What a model that knows the answer would say of a feature."""
    kind, labels = task.kind.name, torch.tensor(feature["labels"])
    size = len(SPECIAL) + len(WORDS)
    if kind in ("text_to_text", "generation"):
        return labels
    if kind == "regression":
        return labels.reshape(1)
    if kind == "multi_label":
        return SURE * (2 * labels - 1)
    if kind == "question_answering":
        at = torch.zeros(len(feature["input_ids"]), 2)
        at[labels[0], 0] = at[labels[1], 1] = SURE
        return at
    if kind == "causal_lm":
        labels = labels.roll(-1)
    classes = len(task.labels) or size
    return SURE * nn.functional.one_hot(labels.clamp(min=0), classes).float()
