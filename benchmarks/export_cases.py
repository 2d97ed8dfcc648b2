"""Models and compositions that are exported: tiny, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

import graftwork as gw

WIDTH, WORDS, PADDING, LABELS = 32, 100, 1, 3
_TEXT = {
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 42,
    "pad_token_id": PADDING,
    "num_labels": LABELS,
}
_T5 = {"vocab_size": WORDS, "d_model": WIDTH, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
_DEBERTA = {
    "type_vocab_size": 0,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}
_DISTIL = {"dim": WIDTH, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
_GPT2 = {"n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 42}
_LLAMA = {"num_key_value_heads": 2}
_IMAGES = {"image_size": 16, "patch_size": 4}

# name: the class with a head of its own, the class without, the configuration
MODELS: dict[str, tuple[Any, Any, Callable[[], Any]]] = {
    "BERT": (hf.BertForSequenceClassification, hf.BertModel, lambda: hf.BertConfig(**_TEXT)),
    "DistilBERT": (
        hf.DistilBertForSequenceClassification,
        hf.DistilBertModel,
        lambda: hf.DistilBertConfig(**{**_TEXT, **_DISTIL}),
    ),
    "RoBERTa": (hf.RobertaForSequenceClassification, hf.RobertaModel, lambda: hf.RobertaConfig(**_TEXT)),
    "DeBERTa-v2": (
        hf.DebertaV2ForSequenceClassification,
        hf.DebertaV2Model,
        lambda: hf.DebertaV2Config(**_TEXT, **_DEBERTA),
    ),
    "ViT": (hf.ViTForImageClassification, hf.ViTModel, lambda: hf.ViTConfig(**{**_TEXT, **_IMAGES})),
    "GPT-2": (hf.GPT2ForSequenceClassification, hf.GPT2Model, lambda: hf.GPT2Config(**{**_TEXT, **_GPT2})),
    "T5 encoder": (hf.T5EncoderModel, hf.T5EncoderModel, lambda: hf.T5Config(**_T5, pad_token_id=PADDING)),
    "Llama": (hf.LlamaForCausalLM, hf.LlamaModel, lambda: hf.LlamaConfig(**_TEXT, **_LLAMA)),
}


def model(name: str, *, headed: bool = False) -> tuple[Any, gw.Adapters]:
    """A model with a head of its own, or a `ModelWithHeads`, and its handle."""
    with_head, base, config = MODELS[name]
    torch.manual_seed(0)
    made = gw.ModelWithHeads(base(config())) if headed else with_head(config())
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return made.eval(), gw.attach(made.eval())


def _pfeiffer() -> gw.Pfeiffer:
    return gw.Pfeiffer(bottleneck_size=4)


def _learned(block: type[Any], method: Callable[[], Any]) -> Callable[[gw.Adapters], gw.Composition]:
    def compose(adapters: gw.Adapters) -> gw.Composition:
        _several(adapters, method, "xyz")
        adapters.add_fusion(block(*"xyz", name="learned"))
        return "learned"

    return compose


def _several(adapters: gw.Adapters, method: Callable[[], Any], names: str = "xy") -> None:
    for name in names:
        adapters.add(name, method())


def _plain(composition: gw.Composition, **methods: Callable[[], Any]) -> Callable[[gw.Adapters], gw.Composition]:
    def compose(adapters: gw.Adapters) -> gw.Composition:
        for name, method in methods.items():
            adapters.add(name, method())
        return composition

    return compose


def _prefix() -> Any:
    import peft

    return peft.PrefixTuningConfig(num_virtual_tokens=3)


# name: what adds the adapters and returns the composition
COMPOSITIONS: dict[str, Callable[[gw.Adapters], gw.Composition]] = {
    "none": _plain(None),
    "one adapter": _plain("x", x=_pfeiffer),
    "Houlsby, norms of its own": _plain("x", x=lambda: gw.Houlsby(bottleneck_size=4)),
    "Stack": _plain(gw.Stack("x", "y"), x=_pfeiffer, y=_pfeiffer),
    "Average": _plain(gw.Average("x", "y", weights=[0.3, 0.7]), x=_pfeiffer, y=_pfeiffer),
    "Fuse": _learned(gw.Fuse, _pfeiffer),
    "Route": _learned(gw.Route, _pfeiffer),
    "ScaLearn": _learned(gw.ScaLearn, _pfeiffer),
    "Concat": _learned(gw.Concat, _pfeiffer),
    "LoRA": _plain("x", x=lambda: gw.LoRA(rank=2)),
    "Fuse of LoRAs": _learned(gw.Fuse, lambda: gw.LoRA(rank=2)),
    "(IA)³": _plain("x", x=gw.IA3),
    "DoRA": _plain("x", x=lambda: gw.DoRA(rank=2)),
    "invertible in a Stack": _plain(
        gw.Stack("x", "y"), x=lambda: gw.InvertiblePfeiffer(reduction_factor=4), y=_pfeiffer
    ),
    "prefix (peft)": _plain("x", x=_prefix),
    "MixedBatch": _plain(gw.MixedBatch(["x", "y"]), x=_pfeiffer, y=_pfeiffer),
}


def stirred(adapters: gw.Adapters) -> None:
    """Move every weight of adapters, fusions and heads off its start, so that each can be seen in the outputs."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapters.model.named_parameters():
            if "graftwork" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def composed(name: str, composition: str, *, headed: bool = False) -> tuple[Any, gw.Adapters]:
    """A model with a composition active."""
    made, adapters = model(name, headed=headed)
    active = COMPOSITIONS[composition](adapters)
    options: dict[str, Any] = {}
    if headed:
        adapters.add_head("own", gw.heads.Classification(labels=LABELS))
        options["head"] = "own"
    elif isinstance(active, gw.Average) and adapters.head_paths:
        options["head"] = "x"
    stirred(adapters)
    adapters.activate(active, **options)
    return made, adapters
