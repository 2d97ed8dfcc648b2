"""Speed beside `adapters` and peft, in one process: ``make bench-peers``.

Ratios to the bare forward pass of the same rows and positions, the median of all rounds and the quartiles; beside each the
multiply-adds of this library's step by those of what it is compared with, counted, and the aim. A row that misses its aim stays.
Every result is compared with its plain form before anything is timed. A library that is not installed is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import logging
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import models, rows
from benchmarks.counting import multiply_adds
from benchmarks.timing import Timing, round_robin

RESULTS = Path("docs/results")


@dataclasses.dataclass
class Result:
    """A row of the table: ratios, or MiB.

    Attributes:
        name: What was run.
        found: By library.
        counted: The ratio of the multiply-adds.
        aim: The highest value that is aimed at.
        unit: ``""`` for a ratio, or ``"MiB"``.
    """

    name: str
    found: dict[str, Timing]
    counted: float | None = None
    aim: float | None = None
    unit: str = ""

    @property
    def missed(self) -> bool:
        """Whether this library's median is over the aim, as it is printed."""
        return self.aim is not None and round(self.found[rows.OURS].ratio, 2) > self.aim

    def line(self) -> str:
        """The row as Markdown."""
        others = [f"{name} {self._cell(one)}" for name, one in self.found.items() if name != rows.OURS]
        counted = "" if self.counted is None else f"{self.counted:.2f}"
        aim = "" if self.aim is None else f"{self.aim:.{0 if self.unit else 2}f}{', **missed**' if self.missed else ''}"
        return f"| {self.name} | {self._cell(self.found[rows.OURS])} | {'; '.join(others)} | {counted} | {aim} |"

    def _cell(self, one: Timing) -> str:
        return f"{one.ratio:.0f} {self.unit}" if self.unit else f"{one.ratio:.2f} ({one.low:.2f} to {one.high:.2f})"


def main() -> None:
    """Measure, print, and write where that is wanted."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=31, help="rounds (default 31)")
    arguments.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    arguments.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    arguments.add_argument("--only", default="", help="only rows of times whose name has this in it")
    arguments.add_argument("--write", action="store_true", help=f"into {RESULTS}/speed.md and {RESULTS}/speed.json")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    logging.disable(logging.WARNING)
    results = measured(torch.device(given.device), given.rounds, given.only)
    print(table(results, described(given)))
    if given.write:
        write(results, described(given), "" if given.device == "cpu" else "-cuda")


def measured(device: torch.device, rounds: int, only: str) -> list[Result]:
    """All rows, measured."""
    base = models.bare().to(device)
    found = [row for row in rows.times(base) if only in row.name]
    beside = {step: multiply_adds(step) for step in {row.beside for row in found}}
    counted = [multiply_adds(row.steps[rows.OURS]) / beside[row.beside] for row in found]
    cases = {(n, library): (step, row.beside) for n, row in enumerate(found) for library, step in row.steps.items()}
    timings = round_robin(cases, rounds)
    results = [
        Result(row.name, {name: timings[n, name] for name in row.steps}, counted[n], row.aim)
        for n, row in enumerate(found)
    ]
    if only:
        return results
    kept = {name: Timing(mib, mib, mib, 0.0) for name, mib in rows.kept(base).items()}
    results.append(Result("kept for the backward pass, Fuse of 8", kept, None, 215, "MiB"))
    name = "adding the 1,000th adapter, beside the first (adapters: the 300th)"
    return [*results, Result(name, rows.growth(), 1, 1.1)]


def described(given: argparse.Namespace) -> str:
    """The model, the machine and the versions, in words."""
    on = f"{platform.machine()} processor, {given.threads} threads"
    if given.device != "cpu":
        on = torch.cuda.get_device_name()
    versions = []
    for name in ("torch", "transformers", "graftwork", "adapters", "peft"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name).split('+')[0]}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{models.described()}; {on}; {', '.join(versions)}; {given.rounds} rounds, median (quartiles)."


def table(results: Sequence[Result], about: str) -> str:
    """The table as Markdown."""
    head = "| | graftwork | others | multiply-adds, counted | aim |\n|---|---|---|---:|---:|"
    return "\n".join([about, "", head, *(one.line() for one in results)])


def write(results: Sequence[Result], about: str, suffix: str) -> None:
    """Put the table between its two markers in the page, and the figures into a file of JSON."""
    begin, end = (f"<!-- {mark} bench-peers{suffix} -->" for mark in ("begin", "end"))
    page = RESULTS / "speed.md"
    block = f"{begin}\n{table(results, about)}\n{end}"
    text, count = re.subn(f"{begin}.*?{end}", lambda _: block, page.read_text(), flags=re.DOTALL)
    page.write_text(text if count else f"{text}\n{block}\n")
    figures: dict[str, Any] = {"about": about, "rows": [{**dataclasses.asdict(r), "missed": r.missed} for r in results]}
    (RESULTS / f"speed{suffix}.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
