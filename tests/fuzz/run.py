"""Reads files that were changed at random, and prints what came of it: ``python -m tests.fuzz.run --count 100000``.

Two processes share the inputs, in pieces. Input ``n`` of a seed is the same whichever process reads it, so that one that went wrong
can be read again: ``--seed 0 --first 1234 --count 1``.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import functools
import multiprocessing
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from random import Random

import torch

from graftwork.errors import GraftworkError
from tests.fuzz.mutations import mutated, renewed
from tests.fuzz.readers import GROUPS
from tests.fuzz.readers.reader import Reader
from tests.fuzz.watched import Strange, Watch

Counts = dict[str, collections.Counter[str]]
_PIECE = 1000  # inputs


class Bench:
    """Readers with the folders that they read, of which one file at a time is changed.

    Args:
        top: An empty folder.
        groups: The groups of readers.
        only: A part of the names of the readers that are used.
    """

    def __init__(self, top: Path, groups: Iterable[str] = GROUPS, only: str = "") -> None:
        self.readers = [r for group in groups for r in GROUPS[group]() if only in r.name]
        self.files: dict[str, dict[Path, bytes]] = {}
        self.right: dict[str, object] = {}
        self.milliseconds: collections.Counter[str] = collections.Counter()
        watch = Watch()
        for reader in self.readers:
            folder = top / reader.name
            folder.mkdir()
            reader.make(folder)
            self.files[reader.name] = {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
            self.right[reader.name] = reader.read(folder)
            watch.run(lambda reader=reader, folder=folder: reader.read(folder), folder, 0)  # type: ignore[misc]  # what it imports late
        self.top, self.watch = top, Watch()

    def read(self, numbers: Iterable[int], seed: int) -> tuple[Counts, list[str]]:
        """What came of some inputs by their numbers, and what went wrong, one text each with the seed that makes it again."""
        counts: Counts = collections.defaultdict(collections.Counter)
        wrong: list[str] = []
        for n in numbers:
            reader = self.readers[n % len(self.readers)]
            start = time.perf_counter()
            try:
                came = self._one(reader, Random(f"{seed}-{n}"))
            except Strange as error:
                came = "wrong"
                wrong.append(f"{reader.name}, input {n} of seed {seed}: {error}")
            counts[reader.name][came] += 1
            self.milliseconds[reader.name] += round(1000 * (time.perf_counter() - start), 3)  # type: ignore[assignment]
        return counts, wrong

    def _one(self, reader: Reader, draw: Random) -> str:
        """What came of one changed input: ``"refused"``, ``"the same"`` or ``"other"``.

        Raises:
            Strange: If anything else did.
        """
        folder, files = self.top / reader.name, self.files[reader.name]
        path = draw.choice([*files])
        changed = {path: mutated(path, files[path], draw)}
        path.write_bytes(changed[path])
        forged = draw.random() < 0.5
        if forged:
            changed |= renewed(folder, files | changed)
        try:
            with torch.random.fork_rng(devices=[]):
                found = self.watch.run(lambda: reader.read(folder), folder, sum(map(len, (files | changed).values())))
        finally:
            for one, data in files.items():
                if one in changed or not one.exists():
                    one.parent.mkdir(parents=True, exist_ok=True)
                    one.write_bytes(data)
        if isinstance(found, GraftworkError):
            return "refused"
        if isinstance(found, BaseException):
            where = traceback.extract_tb(found.__traceback__)[-1]
            raise Strange(
                f"{type(found).__name__}: {found!s:.300} ({Path(where.filename).name}:{where.lineno})"
            ) from found
        if found == self.right[reader.name]:
            return "the same"
        if reader.exact and not forged:
            raise Strange("another output, without a word")
        return "other"


def fuzz(numbers: Iterable[int], seed: int, groups: Iterable[str] = GROUPS) -> tuple[Counts, list[str]]:
    """What came of each reader's inputs, and what went wrong."""
    with tempfile.TemporaryDirectory(dir=_memory()) as top, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Bench(Path(top), groups).read(numbers, seed)


def _memory() -> str | None:
    """A folder in memory where there is one: a disk would take most of the time."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@functools.cache
def _bench(only: str) -> Bench:
    """The bench of this process, which ends with it."""
    warnings.simplefilter("ignore")
    top = tempfile.TemporaryDirectory(dir=_memory())
    bench = Bench(Path(top.name), only=only)
    bench.kept = top  # type: ignore[attr-defined]  # removed with the process
    return bench


def _piece(numbers: range, seed: int, only: str) -> tuple[Counts, list[str], dict[str, float]]:
    torch.set_num_threads(1)
    bench = _bench(only)
    bench.milliseconds.clear()
    counts, wrong = bench.read(numbers, seed)
    return dict(counts), wrong, dict(bench.milliseconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", default="", help="readers with this in their name")
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.count)
    pieces = [numbers[start : start + _PIECE] for start in range(0, len(numbers), _PIECE)]
    counts: Counts = collections.defaultdict(collections.Counter)
    took: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    start = time.perf_counter()
    with concurrent.futures.ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(_piece, piece, options.seed, options.only) for piece in pieces]
        for done, piece in enumerate(concurrent.futures.as_completed(waiting), 1):
            came, went_wrong, milliseconds = piece.result()
            for name, one in came.items():
                counts[name] += one
            took.update(milliseconds)  # type: ignore[arg-type]  # a counter of floats
            wrong += went_wrong
            for text in went_wrong:
                print(text, flush=True)
            if done % 10 == 0 or done == len(pieces):
                print(f"{done} of {len(pieces)} pieces after {time.perf_counter() - start:.0f} s", flush=True)
    for name, one in sorted(counts.items()):
        mean = took[name] / one.total()
        print(f"{name:24}{mean:7.1f} ms ", ", ".join(f"{n:,d} {what}" for what, n in sorted(one.items())))
    total = sum(one.total() for one in counts.values())
    print(f"{total:,d} inputs over {len(counts)} readers, {len(wrong)} wrong, {time.perf_counter() - start:.0f} s")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
