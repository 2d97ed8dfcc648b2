"""The cases of this library."""

from __future__ import annotations

from collections.abc import Callable

import graftwork as gw
from benchmarks.models import BATCH, REDUCTION, bare
from benchmarks.steps import forward, training
from benchmarks.timing import Step


def _attached(count: int) -> tuple[gw.Adapters, list[str]]:
    adapters = gw.attach(bare())
    names = [f"a{n}" for n in range(count)]
    for name in names:
        adapters.add(name, gw.Pfeiffer(reduction_factor=REDUCTION))
    return adapters, names


def _running(count: int, compose: Callable[[list[str]], gw.Composition]) -> Step:
    adapters, names = _attached(count)
    composition = compose(names)
    if isinstance(composition, gw.Fuse):
        adapters.add_fusion(composition)
    adapters.active = composition
    return forward(adapters.model)


def _training_fusion(count: int) -> Step:
    adapters, names = _attached(count)
    pool = gw.Fuse(*names, name="fused")
    adapters.add_fusion(pool)
    adapters.train_only(pool)
    return training(adapters.model)


def _training_one() -> Step:
    adapters, names = _attached(1)
    adapters.train_only(names[0])
    return training(adapters.model)


def cases() -> dict[str, Callable[[], Step]]:
    """Every case by name, not yet built."""
    found: dict[str, Callable[[], Step]] = {
        "attached, nothing active": lambda: _running(1, lambda names: None),
        "one Pfeiffer adapter": lambda: _running(1, lambda names: names[0]),
    }
    for n in (2, 4, 8, 16):
        found[f"Fuse, {n} adapters"] = lambda n=n: _running(n, lambda names: gw.Fuse(*names, name="fused"))
    found["Average, 4 adapters"] = lambda: _running(4, lambda names: gw.Average(*names))
    found["Stack, 2 adapters"] = lambda: _running(2, lambda names: gw.Stack(*names))
    found["BatchSplit, 4 adapters x 2 rows"] = lambda: _running(4, lambda n: gw.BatchSplit(*n, batch_sizes=BATCH // 4))
    found["MixedBatch, 8 adapters in turn"] = lambda: _running(8, gw.MixedBatch)
    found["training step, one Pfeiffer adapter"] = _training_one
    found["training step, fusion of 8 adapters"] = lambda: _training_fusion(8)
    return found
