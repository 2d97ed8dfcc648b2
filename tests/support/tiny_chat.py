"""Decoders that talk, small: a tokenizer of bytes with a chat template, and a Llama for it."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from graftwork import ModelWithHeads

END, PAD = "<|im_end|>", "<|pad|>"
# as SmolLM2-Instruct has it, with a system's message where a dialogue has none
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """A token a byte, and the special tokens of ChatML."""
    vocabulary = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special: dict[str, Any] = {"eos_token": END, "pad_token": PAD, "additional_special_tokens": ["<|im_start|>"]}
    made = PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=512, **special)
    made.chat_template = template
    return made


SIZES = {"vocab_size": 260, "pad_token_id": 257, "bos_token_id": None, "eos_token_id": 256}


def llama() -> LlamaConfig:
    """A decoder with rotary positions and tied embeddings."""
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True}
    return LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, max_position_embeddings=512, **heads, **SIZES
    )


def gpt2() -> GPT2Config:
    """A decoder with learnt positions."""
    return GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=512, **SIZES)


def talker(config: Any, dtype: torch.dtype = torch.float64) -> ModelWithHeads:
    """A model that generates, with large random weights, so that what it says differs from prompt to prompt."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.4)
    return ModelWithHeads(model)
