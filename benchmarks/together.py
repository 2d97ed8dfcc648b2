"""N adapters learnt in one pass, against one after another: ``python -m benchmarks.together``.

Prints for each N and batch size the time of one step of all N adapters in one pass, as a ratio to N steps of one adapter
each (the median of paired rounds; below 1: one pass is faster), and the highest memory of a process that does either.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import graftwork as gw
from benchmarks.models import SEQUENCE, VOCABULARY, bare, described
from benchmarks.timing import paired
from graftwork.experiments.costing.costs import highest_memory

LABELS = 3


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tasks", type=int, nargs="+", default=[2, 4, 8], help="numbers of tasks (default 2 4 8)")
    arguments.add_argument("--rows", type=int, nargs="+", default=[1, 8], help="rows a task (default 1 8)")
    arguments.add_argument("--rounds", type=int, default=7, help="paired rounds (default 7)")
    given = arguments.parse_args()
    print(f"{described()}, {torch.get_num_threads()} threads; median of {given.rounds} paired rounds\n")
    print("| tasks | rows a task | time, one pass | memory, one after another | memory, one pass |")
    print("|---:|---:|---:|---:|---:|")
    for tasks in given.tasks:
        for rows in given.rows:
            apart, at_once = steps(tasks, rows)
            ratio = paired(apart, {"once": at_once}, given.rounds, warmup=1)["once"].ratio
            memory = [megabytes(tasks, rows, together) for together in (False, True)]
            print(f"| {tasks} | {rows} | {ratio:.2f} | {memory[0]} MB | {memory[1]} MB |", flush=True)


def steps(tasks: int, rows: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A step of every adapter, one after another and in one pass."""
    adapters = gw.attach(gw.ModelWithHeads(bare()))
    names = [f"task {n}" for n in range(tasks)]
    for name in names:
        adapters.add(name, gw.Pfeiffer(reduction_factor=16))
        adapters.add_head(name, gw.heads.Classification(labels=LABELS))
    adapters.train_only(names, active=gw.BatchSplit(*names, batch_sizes=rows))
    optimisers = [torch.optim.AdamW(weights(adapters, name)) for name in names]
    batches = {name: batch(n, rows) for n, name in enumerate(names)}
    model: Any = adapters.model
    model.train()

    def apart() -> None:
        for name, optimiser in zip(names, optimisers, strict=True):
            ids, labels = batches[name]
            with adapters.using(name):
                model(input_ids=ids, labels=labels).loss.backward()
            optimiser.step()
            optimiser.zero_grad()

    def at_once() -> None:
        ids = torch.cat([ids for ids, _ in batches.values()])
        with adapters.using(gw.BatchSplit(*names, batch_sizes=[rows] * tasks)):
            output = model(input_ids=ids, labels={name: labels for name, (_, labels) in batches.items()})
        torch.stack([part.loss for part in output.by_head.values()]).sum().backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()

    return apart, at_once


def weights(adapters: gw.Adapters, name: str) -> list[Tensor]:
    """What learns of one adapter."""
    modules = [*adapters.modules_of(name).values(), *adapters.head_of(name).values()]
    return [p for module in modules for p in module.parameters()]


def batch(seed: int, rows: int) -> tuple[Tensor, Tensor]:
    """Token ids ``(rows, positions)`` and labels ``(rows,)``."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCABULARY, (rows, SEQUENCE), generator=draw)
    return ids, torch.randint(0, LABELS, (rows,), generator=draw)


def megabytes(tasks: int, rows: int, together: bool) -> int:
    """The highest resident memory of a fresh process that makes two steps."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (tasks, rows, together))


def _peak(tasks: int, rows: int, together: bool) -> int:
    step = steps(tasks, rows)[together]
    for _ in range(2):
        step()
    return highest_memory() // 1_000_000


if __name__ == "__main__":
    main()
