"""A mixture of experts computed for the chosen alone and for all: ``python -m benchmarks.moe``.

Prints for several sizes the time of computing the chosen experts alone as a ratio to that of computing all (below 1: the chosen
alone are faster), forward and with the backward pass, the median of paired rounds, and which way `mixture` takes by its count.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from benchmarks.timing import paired
from graftwork.methods.layers.experts import Experts, all_of_them, chosen_alone, chosen_pay
from graftwork.methods.layers.top_k_gating import NoisyGate

WIDTH = 768
# experts, chosen, bottleneck
CASES = ((4, 2, 16), (8, 2, 16), (8, 2, 48), (8, 2, 192), (16, 2, 48), (16, 1, 96), (32, 2, 48), (32, 2, 96))


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=15, help="paired rounds (default 15)")
    arguments.add_argument("--positions", type=int, default=1024, help="positions in a batch (default 1024)")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    print(f"float32, width {WIDTH}, {given.positions} positions, one thread; median of {given.rounds} paired rounds\n")
    print("| experts | chosen | bottleneck | forward | with backward | taken |")
    print("|---:|---:|---:|---:|---:|---|")
    for experts, top_k, rank in CASES:
        ratios = [ratio(experts, top_k, rank, given, backward) for backward in (False, True)]
        taken = "the chosen alone" if chosen_pay(given.positions, experts, top_k, rank) else "all"
        print(f"| {experts} | {top_k} | {rank} | {ratios[0]:.2f} | {ratios[1]:.2f} | {taken} |", flush=True)


def ratio(experts: int, top_k: int, rank: int, given: argparse.Namespace, backward: bool) -> float:
    torch.manual_seed(0)
    shapes = (experts, rank, WIDTH), (experts, rank), (experts, WIDTH, rank), (experts, WIDTH)
    down, bias, up, constant = (torch.randn(shape).mul_(0.02).requires_grad_(backward) for shape in shapes)
    stacked = Experts(down, bias, up, constant, "relu")
    gate = NoisyGate(experts, WIDTH, noise=False, dtype=torch.float32)
    torch.nn.init.normal_(gate.weight, std=0.1)
    read = torch.randn(1, given.positions, WIDTH, requires_grad=backward)

    def step(way: Callable[..., torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            with torch.set_grad_enabled(backward):
                out = way(stacked, read, gate(read, top_k, noisy=False))
            if backward:
                out.sum().backward()

        return run

    return paired(step(all_of_them), {"chosen": step(chosen_alone)}, given.rounds)["chosen"].ratio


if __name__ == "__main__":
    main()
