"""A plain loop of accelerate trains the adapters of a decoder: a LoRA and a bottleneck, then used together.

python examples/accelerate_loop.py                      # a tiny model with random weights: only the loss says something
python examples/accelerate_loop.py --base smollm2       # see smollm2.py; also a folder, or a name on the hub
accelerate launch examples/accelerate_loop.py           # on every device that accelerate is configured for
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from smollm2 import answer
from sums import arguments, load, rows
from torch.utils.data import DataLoader

import graftwork as gw


def main() -> None:
    """Train both adapters, save them, and ask their average for a sum."""
    args = arguments(__doc__, "out/accelerate")
    accelerator = Accelerator()
    model, tokenizer = load(args.base)
    adapters = gw.attach(model)
    # A decoder's stream can be large, and a Pfeiffer reads it: U = 0 begins without an effect, as a LoRA does.
    methods = {"lora": gw.LoRA(rank=8), "pfeiffer": gw.Pfeiffer(reduction_factor=8, init="zero")}
    for name, method in methods.items():
        adapters.add(name, method)
        adapters.train_only(name)
        losses = learn(accelerator, model, tokenizer, args.steps, args.lr)
        accelerator.print(f"{name}: loss {losses[0]:.2f} at first, {losses[-1]:.2f} at the end")
        if accelerator.is_main_process:
            adapters.save(name, Path(args.out, name))
    question = rows()[0]["prompt"][0]["content"]
    with adapters.using(gw.Average(*methods)):
        accelerator.print(f"{question} {answer(model, tokenizer, question)!r}")


def learn(accelerator: Accelerator, model: Any, tokenizer: Any, steps: int, lr: float) -> list[float]:
    """Train whatever of the model wants a gradient; the loss of each step on this process."""
    torch.manual_seed(0)
    loader = DataLoader(rows(), batch_size=8, shuffle=True, collate_fn=lambda some: batch(some, tokenizer))
    learner = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    prepared, learner, loader = accelerator.prepare(model, learner, loader)
    prepared.train()
    losses: list[float] = []
    while len(losses) < steps:
        for features in loader:
            loss = prepared(**features).loss
            accelerator.backward(loss)
            learner.step()
            learner.zero_grad()
            losses.append(loss.item())
    accelerator.free_memory()
    return losses[:steps]


def batch(some: list[dict[str, Any]], tokenizer: Any) -> dict[str, torch.Tensor]:
    """Padded tokens, and labels for the completions alone."""
    chat = tokenizer.apply_chat_template
    prompts = [chat(row["prompt"], add_generation_prompt=True, tokenize=False) for row in some]
    whole = [chat([*row["prompt"], *row["completion"]], tokenize=False) for row in some]
    starts = torch.tensor([len(ids) for ids in tokenizer(prompts, add_special_tokens=False)["input_ids"]])
    padded = tokenizer(whole, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
    asked = (torch.arange(padded["input_ids"].shape[1]) < starts[:, None]) | (padded["attention_mask"] == 0)
    return {**padded, "labels": padded["input_ids"].masked_fill(asked, -100)}


if __name__ == "__main__":
    main()
