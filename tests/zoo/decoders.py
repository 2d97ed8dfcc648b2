"""Causal decoders and state-space models of the zoo."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from torch import nn

from tests.zoo.inputs import text
from tests.zoo.registry import AF, PAD, VOCAB, WIDTH, Expected, Unavailable, register

Built = tuple[nn.Module, dict[str, Any], Expected]
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
GROUPED = {**COMMON, "num_key_value_heads": 2}
PRE = Expected({"layers": (2, AF)}, "pre")


def config_of(name: str, **fields: Any) -> Any:
    """A configuration class of transformers by name, made.

    Raises:
        Unavailable: If the installed transformers does not have it.
    """
    if not hasattr(hf, name):
        raise Unavailable(f"transformers {hf.__version__} has no {name}")
    return getattr(hf, name)(**fields)


@register("gpt2")
def gpt2(generator: torch.Generator) -> Built:
    """Radford et al. 2019: pre-norm, Conv1D layers, learned positions."""
    config = hf.GPT2Config(
        vocab_size=VOCAB, n_embd=WIDTH, n_layer=2, n_head=4, n_inner=48, n_positions=64, bos_token_id=2, eos_token_id=3
    )
    return hf.GPT2Model(config), text(generator), Expected({"h": (2, AF)}, "pre")


@register("gpt_neox")
def gpt_neox(generator: torch.Generator) -> Built:
    """Black et al. 2022: attention and feed-forward in parallel, each behind its own norm."""
    return hf.GPTNeoXModel(hf.GPTNeoXConfig(**COMMON)), text(generator), Expected({"layers": (2, AF)}, "parallel")


@register("llama")
def llama(generator: torch.Generator) -> Built:
    """Touvron et al. 2023: pre-norm with RMSNorm, rotary, gated feed-forward, grouped keys and values."""
    return hf.LlamaModel(hf.LlamaConfig(**GROUPED)), text(generator), PRE


@register("llama_causal")
def llama_causal(generator: torch.Generator) -> Built:
    """Llama with its language-model head."""
    expected = Expected({"model.layers": (2, AF)}, "pre", generates=True)
    return hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED, tie_word_embeddings=False)), text(generator), expected


@register("qwen3")
def qwen3(generator: torch.Generator) -> Built:
    """Llama's layer with norms on queries and keys."""
    return hf.Qwen3Model(config_of("Qwen3Config", **GROUPED, head_dim=8)), text(generator), PRE


@register("gemma3")
def gemma3(generator: torch.Generator) -> Built:
    """Gemma 3, text: a norm before and behind every branch, local and global attention."""
    config = config_of(
        "Gemma3TextConfig",
        **GROUPED,
        head_dim=8,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
        query_pre_attn_scalar=8,
    )
    return hf.Gemma3TextModel(config), text(generator), PRE


@register("falcon")
def falcon(generator: torch.Generator) -> Built:
    """Falcon 7B: attention and feed-forward in parallel behind one norm, one key and value head."""
    config = hf.FalconConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        multi_query=True,
        parallel_attn=True,
        new_decoder_architecture=False,
        bos_token_id=2,
        eos_token_id=3,
    )
    return hf.FalconModel(config), text(generator), Expected({"h": (2, AF)}, "parallel")


@register("opt")
def opt(generator: torch.Generator) -> Built:
    """Zhang et al. 2022: pre-norm with LayerNorm, learned positions."""
    fields = {key: value for key, value in COMMON.items() if key != "intermediate_size"}
    config = hf.OPTConfig(**fields, ffn_dim=48, word_embed_proj_dim=WIDTH)
    return hf.OPTModel(config), text(generator), Expected({"decoder.layers": (2, AF)}, "pre")


@register("mixtral")
def mixtral(generator: torch.Generator) -> Built:
    """Jiang et al. 2024: Llama's layer with four experts, two of them chosen for a token."""
    config = hf.MixtralConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2)
    return hf.MixtralModel(config), text(generator), PRE


@register("mamba")
def mamba(generator: torch.Generator) -> Built:
    """Gu and Dao 2023: one state-space mixer a layer and no feed-forward."""
    config = hf.MambaConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, state_size=4, expand=2, pad_token_id=PAD
    )
    return hf.MambaModel(config), text(generator), Expected({"layers": (2, ("mixer",))}, "pre")
