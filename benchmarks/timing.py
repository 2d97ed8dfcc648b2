"""Paired rounds: in every round each case runs right behind a run of its own yardstick, so that noise meets both."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping

from rich.progress import track

Step = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Timing:
    """What the rounds of one case gave.

    Attributes:
        ratio: Median of the paired ratios to the yardstick.
        low: First quartile of the ratios.
        high: Third quartile of the ratios.
        milliseconds: Median time of one run.
    """

    ratio: float
    low: float
    high: float
    milliseconds: float


def once(step: Step) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def paired(yardstick: Step, cases: Mapping[str, Step], rounds: int, warmup: int = 3) -> dict[str, Timing]:
    """Time every case against the yardstick, ``rounds`` times round-robin."""
    for step in (yardstick, *cases.values()):
        for _ in range(warmup):
            step()
    ratios: dict[str, list[float]] = {name: [] for name in cases}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in track(range(rounds), description="rounds"):
        for name, step in cases.items():
            # The order within a pair alternates, so that neither side is always the one with the warm cache.
            if number % 2:
                spent = once(step)
                bare = once(yardstick)
            else:
                bare = once(yardstick)
                spent = once(step)
            ratios[name].append(spent / bare)
            times[name].append(spent)
    found = {}
    for name, values in ratios.items():
        low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
        found[name] = Timing(middle, low, high, statistics.median(times[name]) * 1e3)
    return found
