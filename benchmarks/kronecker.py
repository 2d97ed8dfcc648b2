"""Compacter's projections with W made and without it: ``python -m benchmarks.kronecker``.

Prints for both projections of one adapter the time of the way around W as a ratio to the way through W (below 1: the way
around is faster), the median of paired rounds, and which of the two a `Projection` takes by its count of multiplications.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from benchmarks.timing import paired
from graftwork.methods.layers.kronecker import Projection, Rule

# width, bottleneck, n, rank; n = 1 has no rule
CASES = ((768, 24, 4, 1), (768, 96, 4, 1), (768, 24, 12, 1), (768, 24, 1, 1))


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=31, help="paired rounds (default 31)")
    arguments.add_argument("--positions", type=int, default=512, help="positions in a batch (default 512)")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    print(f"float32, {given.positions} positions, one thread; median of {given.rounds} paired rounds\n")
    print("| width | bottleneck | n | k | forward | with backward | down goes | up goes |")
    print("|---:|---:|---:|---:|---:|---:|---|---|")
    for width, size, n, rank in CASES:
        pair = [made(width, size, n, rank), made(size, width, n, rank)]
        rule = Rule(n, 0.1, torch.float32).matrices if n > 1 else None
        goes = ["around W" if one.around else "through W" for one in pair]
        ratios = [ratio(pair, rule, width, given, backward) for backward in (False, True)]
        print(f"| {width} | {size} | {n} | {rank} | {ratios[0]:.2f} | {ratios[1]:.2f} | {goes[0]} | {goes[1]} |")


def made(width_in: int, width_out: int, n: int, rank: int) -> Projection:
    projection = Projection(width_in, width_out, n, rank, own_rule=False, dtype=torch.float32)
    projection.start(0.1, zero=False)
    return projection


def ratio(
    pair: list[Projection], rule: torch.Tensor | None, width: int, given: argparse.Namespace, backward: bool
) -> float:
    read = torch.randn(given.positions, width, requires_grad=backward)

    def step(around: bool) -> Callable[[], None]:
        def run() -> None:
            for projection in pair:
                projection.around = around
            with torch.set_grad_enabled(backward):
                out = pair[1](pair[0](read, rule).relu(), rule)
            if backward:
                out.sum().backward()

        return run

    return paired(step(False), {"around": step(True)}, given.rounds)["around"].ratio


if __name__ == "__main__":
    main()
