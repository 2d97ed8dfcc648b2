"""Saves that are killed at random moments: ``python -m tests.checkpoint.kills --count 200``.

A process writes two contents into a folder by turns, and is killed; then the folder must load, and give the outputs of one of them.
Every kind of content in every format that it is written in.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import graftwork as gw
from graftwork.checkpoint.naming import tensors_of
from tests.checkpoint.common import added, attached
from tests.support.loading import Loading, LoadingBase

_VALUES = (0.01, 0.02)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is saved.

    Attributes:
        make: Adds it to a model, and returns what is given to `save`.
        form: The format.
        stays: Adds what the model that loads has already.
        base: Whether it is the difference of a trained base.
    """

    make: Callable[[gw.Adapters], Any]
    form: str = "graftwork"
    stays: Callable[[gw.Adapters], Any] = lambda adapters: None
    base: bool = False


def _pool(adapters: gw.Adapters) -> None:
    added(adapters, a=gw.Pfeiffer(reduction_factor=8), b=gw.Pfeiffer(reduction_factor=8))


def _fusion(adapters: gw.Adapters) -> str:
    _pool(adapters)
    adapters.add_fusion(gw.Fuse("a", "b", name="a,b"))
    return "a,b"


def _composition(adapters: gw.Adapters) -> gw.Stack:
    added(adapters, c=gw.Pfeiffer(reduction_factor=8))
    _fusion(adapters)
    return gw.Stack("c", gw.Fuse("a", "b", name="a,b"))


def _one(config: gw.AdapterConfig) -> Callable[[gw.Adapters], str]:
    def add(adapters: gw.Adapters) -> str:
        added(adapters, one=config)
        return "one"

    return add


_ADAPTER, _LORA = _one(gw.Pfeiffer(reduction_factor=8)), _one(gw.LoRA(rank=2, targets=["query", "value"]))
CASES: dict[str, Case] = {
    "adapter": Case(_ADAPTER),
    "fusion": Case(_fusion, stays=_pool),
    "composition": Case(_composition),
    "difference of a base": Case(lambda adapters: None, base=True),
    "adapter for peft": Case(_LORA, "peft"),
    "adapter for AdapterHub": Case(_ADAPTER, "adapterhub"),
    "fusion for AdapterHub": Case(_fusion, "adapterhub", stays=_pool),
    "composition for AdapterHub": Case(_composition, "adapterhub"),
}


@dataclasses.dataclass
class Outcome:
    """What came of some kills: how many, how many in the middle of a save, and the folders that were neither old nor new."""

    kills: int = 0
    amid: int = 0
    broken: list[str] = dataclasses.field(default_factory=list)


class Writer:
    """Saves one content or the other of a case into a folder."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        zoo, self.adapters = attached()
        self.what = case.make(self.adapters)
        self.known = [p for p in zoo.model.parameters() if "LayerNorm" in _name(zoo.model, p)] if case.base else []
        if case.base:
            self.adapters.train_only(None, base="norms")

    def __call__(self, value: float) -> None:
        parts = [] if self.case.base else self.adapters.fusions if "," in str(self.what) else self.adapters.names
        tensors = self.known or [t for name in parts for t in tensors_of(self.adapters, name).values()]
        with torch.no_grad():
            for n, tensor in enumerate(tensors):
                tensor.fill_(value * (1 + n % 3))
        if self.case.base:
            self.adapters.save_base(self.folder)
        else:
            self.adapters.save(self.what, self.folder, format=self.case.form)


def _name(model: torch.nn.Module, parameter: torch.nn.Parameter) -> str:
    return next(name for name, p in model.named_parameters() if p is parameter)


@contextlib.contextmanager
def saving(write: Callable[[float], None]) -> Iterator[None]:
    """Another process has begun to save, again and again, and is killed at the end."""
    begun, begins = os.pipe()
    child = os.fork()
    if not child:
        while True:
            for value in _VALUES:
                os.write(begins, b".")
                write(value)
    try:
        os.read(begun, 1)
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(begun)
        os.close(begins)


def killed(case: Case, count: int, top: Path, seed: int = 0) -> Outcome:
    """What came of killing saves of a case."""
    folder, draw, outcome = top / "saved", random.Random(seed), Outcome()
    write = Writer(case, folder)
    load = (LoadingBase if case.base else Loading)(stays=case.stays)
    known, seconds = [], 0.0
    for value in _VALUES:
        start = time.perf_counter()
        write(value)
        seconds = time.perf_counter() - start
        known.append(load(folder))
    assert known[0] != known[1]
    for n in range(count):
        with saving(write):
            time.sleep(draw.uniform(0, 1.5 * seconds))
        outcome.kills += 1
        left = [path.name for path in top.iterdir() if path != folder]
        outcome.amid += bool(left)
        try:
            if load(folder) not in known:
                outcome.broken.append(f"kill {n}: the folder is neither the old one nor the new one")
        except gw.GraftworkError as error:
            outcome.broken.append(f"kill {n}: {error}")
        write(_VALUES[n % 2])
        left = [path.name for path in top.iterdir() if path != folder]
        if left:
            outcome.broken.append(f"kill {n}: the next save left {left}")
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="kills of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    broken = 0
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as top:
            outcome = killed(case, options.count, Path(top), options.seed)
        broken += len(outcome.broken)
        print(f"{name:28}{outcome.kills} kills, {outcome.amid} amid a save, {len(outcome.broken)} broken", flush=True)
        for text in outcome.broken[:10]:
            print(f"  {text}")
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    main()
