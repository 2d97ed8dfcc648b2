"""What the examples of training a decoder share: small sums in words as a chat, and a model for them."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from smollm2 import base
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def rows() -> list[dict[str, list[dict[str, str]]]]:
    """A hundred sums, each a prompt and a completion of one message, as TRL reads them."""
    return [
        {
            "prompt": [{"role": "user", "content": f"How much is {a} plus {b}?"}],
            "completion": [{"role": "assistant", "content": str(a + b)}],
        }
        for a in range(10)
        for b in range(10)
    ]


def load(name: str) -> tuple[Any, Any]:
    """A model and its tokenizer: ``"tiny"``, made on the spot; ``"smollm2"``; a folder or a name on the hub."""
    if name == "tiny":
        return tiny()
    where = base() if name == "smollm2" else name
    return AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32), AutoTokenizer.from_pretrained(where)


def tiny(layers: int = 2) -> tuple[Any, Any]:
    """A Llama of a few layers with random weights, and a tokenizer of single bytes with a chat template."""
    bytewise = Tokenizer(models.BPE())
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|im_start|>", "<|im_end|>"]
    bytewise.train_from_iterator(
        [], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytewise,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": layers, "num_attention_heads": 4}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **ends)), tokenizer


def arguments(about: str | None, out: str) -> argparse.Namespace:
    """The command line of an example, with its description and where it writes by default."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="tiny", help="tiny, smollm2, a folder, or a name on the hub")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--out", default=out, help="where the adapters and checkpoints go")
    return parser.parse_args()
