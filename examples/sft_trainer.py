"""TRL's SFTTrainer trains the adapters of a decoder: a LoRA and a bottleneck, one after the other, then used together.

    pip install 'graftwork[trl]'
    python examples/sft_trainer.py                   # a tiny model with random weights: only the loss says something
    python examples/sft_trainer.py --base smollm2    # see smollm2.py; also a folder, or a name on the hub

Nothing about TRL is particular to graftwork, nor the other way round: `train_only` says what has a gradient, and the trainer
trains that. `AdapterTrainer` in front of `SFTTrainer` keeps the base out of the checkpoints, and is all that it does.
"""

from __future__ import annotations

from pathlib import Path

import torch
from datasets import Dataset
from smollm2 import answer
from sums import arguments, load, rows
from trl import SFTConfig, SFTTrainer

import graftwork as gw
from graftwork.training import AdapterTrainer


class AdapterSFTTrainer(AdapterTrainer, SFTTrainer):
    """SFTTrainer whose checkpoints hold the adapters and not the base."""


def main() -> None:
    """Train both adapters, save them, and ask their average for a sum."""
    args = arguments(__doc__, "out/sft")
    model, tokenizer = load(args.base)
    adapters = gw.attach(model)
    # A decoder's stream can be large, and a Pfeiffer reads it: U = 0 begins without an effect, as a LoRA does.
    methods = {"lora": gw.LoRA(rank=8), "pfeiffer": gw.Pfeiffer(reduction_factor=8, init="zero")}
    for name, method in methods.items():
        adapters.add(name, method)
        adapters.train_only(name)
        config = SFTConfig(
            output_dir=str(Path(args.out, "checkpoints", name)),
            max_steps=args.steps,
            per_device_train_batch_size=8,
            learning_rate=args.lr,
            use_cpu=not torch.cuda.is_available(),
            bf16=torch.cuda.is_available(),
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
        )
        sums = Dataset.from_list(rows())  # the loss is on the completions
        trainer = AdapterSFTTrainer(model=model, args=config, train_dataset=sums, processing_class=tokenizer)
        trainer.train()
        adapters.save(name, Path(args.out, name))
        losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
        print(f"{name}: loss {losses[0]:.2f} at first, {losses[-1]:.2f} at the end")
    question = rows()[0]["prompt"][0]["content"]
    with adapters.using(gw.Average(*methods)):
        print(f"{question} {answer(model, tokenizer, question)!r}")


if __name__ == "__main__":
    main()
