"""Reads files that were changed at random, and prints what came of it: ``python -m tests.fuzz.run --count 20000``."""

from __future__ import annotations

import argparse
import collections
import shutil
import tempfile
import traceback
import warnings
from pathlib import Path
from random import Random

import torch

from graftwork.errors import GraftworkError
from tests.fuzz.mutations import mutated, renewed
from tests.fuzz.readers import Reader, readers
from tests.fuzz.watched import Strange, Watch

Counts = dict[str, collections.Counter[str]]


def fuzz(count: int, seed: int = 0, only: str = "") -> tuple[Counts, list[str]]:
    """What came of each reader's inputs, and what went wrong, one text each with the seed that makes it again."""
    known = [reader for reader in readers() if only in reader.name]
    counts: Counts = {reader.name: collections.Counter() for reader in known}
    wrong: list[str] = []
    watch = Watch()
    with tempfile.TemporaryDirectory() as top, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        right = {}
        for reader in known:
            good = Path(top, reader.name)
            good.mkdir()
            reader.make(good)
            right[reader.name] = reader.read(good)
            watch.run(lambda reader=reader, good=good: reader.read(good), 0)  # type: ignore[misc]  # what it imports late
        watch = Watch()
        for n in range(count):
            reader = known[n % len(known)]
            try:
                came = _one(reader, Path(top), right[reader.name], Random(f"{seed}-{n}"), watch)
            except Strange as error:
                came = "wrong"
                wrong.append(f"{reader.name}, input {n} of seed {seed}: {error}")
            counts[reader.name][came] += 1
    return counts, wrong


def _one(reader: Reader, top: Path, right: object, draw: Random, watch: Watch) -> str:
    """What came of one changed input: ``"refused"``, ``"the same"`` or ``"other"``.

    Raises:
        Strange: If anything else did.
    """
    place = Path(shutil.copytree(top / reader.name, top / "changed" / reader.name))
    try:
        path = draw.choice(sorted(p for p in place.rglob("*") if p.is_file()))
        path.write_bytes(mutated(path, path.read_bytes(), draw))
        forged = reader.exact and draw.random() < 0.5
        if forged:
            renewed(place)
        size = sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
        with torch.random.fork_rng(devices=[]):
            found, _ = watch.run(lambda: reader.read(place), size)
    finally:
        shutil.rmtree(top / "changed")
    if isinstance(found, GraftworkError):
        return "refused"
    if isinstance(found, BaseException):
        where = traceback.extract_tb(found.__traceback__)[-1]
        raise Strange(f"{type(found).__name__}: {found!s:.300} ({Path(where.filename).name}:{where.lineno})") from found
    if found == right:
        return "the same"
    if reader.exact and not forged:
        raise Strange("another output, without a word")
    return "other"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="readers with this in their name")
    options = parser.parse_args()
    counts, wrong = fuzz(options.count, options.seed, options.only)
    for name, came in counts.items():
        print(f"{name:14}", ", ".join(f"{n:,d} {what}" for what, n in sorted(came.items())))
    for text in wrong[:100]:
        print(text)
    raise SystemExit(f"{len(wrong)} of {options.count:,d} went wrong" if wrong else 0)


if __name__ == "__main__":
    main()
