"""Rounds: in every round each case runs right beside a run of its own yardstick, so that noise meets both."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch
from rich.progress import track

Step = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Timing:
    """What the rounds of one case gave.

    Attributes:
        ratio: Median of the ratios to the yardstick.
        low: First quartile of the ratios.
        high: Third quartile of the ratios.
        milliseconds: Median time of one run.
    """

    ratio: float
    low: float
    high: float
    milliseconds: float


def once(step: Step) -> float:
    """Seconds of one run, on a GPU until it is done."""
    _wait()
    start = time.perf_counter()
    step()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def paired(yardstick: Step, cases: Mapping[Name, Step], rounds: int, warmup: int = 3) -> dict[Name, Timing]:
    """Time every case against one yardstick, ``rounds`` times round-robin."""
    return round_robin({name: (step, yardstick) for name, step in cases.items()}, rounds, warmup)


def round_robin(cases: Mapping[Name, tuple[Step, Step]], rounds: int, warmup: int = 1) -> dict[Name, Timing]:
    """Time every case, ``(step, yardstick)``, ``rounds`` times round-robin.

    Two cases of one yardstick that follow one another share a run of it, which is between theirs; the order is turned round in
    every round, so that neither side is always the one with the warm cache.
    """
    for step in dict.fromkeys(step for pair in cases.values() for step in pair):
        for _ in range(warmup):
            step()
    ratios: dict[Name, list[float]] = {name: [] for name in cases}
    times: dict[Name, list[float]] = {name: [] for name in cases}
    for number in track(range(rounds), description="rounds"):
        waiting = list(cases) if number % 2 else list(reversed(cases))
        while waiting:
            name = waiting.pop(0)
            step, yardstick = cases[name]
            spent = {name: once(step)}
            bare = once(yardstick)
            if waiting and cases[waiting[0]][1] is yardstick:
                name = waiting.pop(0)
                spent[name] = once(cases[name][0])
            for name, seconds in spent.items():
                ratios[name].append(seconds / bare)
                times[name].append(seconds)
    return {name: timing(ratios[name], statistics.median(times[name])) for name in cases}


def timing(ratios: list[float], seconds: float) -> Timing:
    """The median and the quartiles of some ratios."""
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return Timing(middle, low, high, 1e3 * seconds)
