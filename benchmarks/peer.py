"""The same cases of `adapters`, for an environment that has it (`make bench-peer`)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from benchmarks.models import BATCH, REDUCTION, bare
from benchmarks.steps import forward, training
from benchmarks.timing import Step


def _prepared(count: int) -> tuple[object, list[str]]:
    import adapters

    logging.disable(logging.WARNING)
    model = bare()
    adapters.init(model)
    names = [f"a{n}" for n in range(count)]
    for name in names:
        model.add_adapter(name, config=adapters.SeqBnConfig(reduction_factor=REDUCTION))
    return model.eval(), names


def _running(count: int, block: str | None, **options: object) -> Step:
    import adapters.composition as blocks

    model, names = _prepared(count)
    if block == "Fuse":
        model.add_adapter_fusion(names)
    if block is not None:
        setup = names[0] if block == "one" else getattr(blocks, block)(*names, **options)
        model.set_active_adapters(setup)
    return forward(model.eval())


def _training_fusion(count: int) -> Step:
    import adapters.composition as blocks

    model, names = _prepared(count)
    model.add_adapter_fusion(names)
    model.train_adapter_fusion(blocks.Fuse(*names))
    return training(model.eval())


def _training_one() -> Step:
    model, names = _prepared(1)
    model.train_adapter(names[0])
    return training(model.eval())


def cases() -> dict[str, Callable[[], Step]]:
    """Every case by the same name as in `benchmarks.ours`, not yet built."""
    found: dict[str, Callable[[], Step]] = {
        "attached, nothing active": lambda: _running(1, None),
        "one Pfeiffer adapter": lambda: _running(1, "one"),
    }
    for n in (2, 4, 8, 16):
        found[f"Fuse, {n} adapters"] = lambda n=n: _running(n, "Fuse")
    found["Average, 4 adapters"] = lambda: _running(4, "Average")
    found["Stack, 2 adapters"] = lambda: _running(2, "Stack")
    found["BatchSplit, 4 adapters x 2 rows"] = lambda: _running(4, "BatchSplit", batch_sizes=[BATCH // 4] * 4)
    found["training step, one Pfeiffer adapter"] = _training_one
    found["training step, fusion of 8 adapters"] = lambda: _training_fusion(8)
    return found
