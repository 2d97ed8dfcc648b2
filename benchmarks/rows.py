"""The rows of `benchmarks.peers`: what is run of each library and beside what, after a comparison with the plain form."""

from __future__ import annotations

import dataclasses
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import graftwork as gw
from benchmarks import models
from benchmarks.counting import kept_for_backward
from benchmarks.libraries import HAS_HUB, RANK, Hub, Ours, Peft, agree, by_outputs, lora, plain, with_loras
from benchmarks.steps import forward, gradient, loss, training
from benchmarks.timing import Step, Timing, timing

OURS, HUB, PEFT, FULL = "graftwork", "adapters", "peft", "full fine-tuning"
TARGETS = ("query", "value")
UPPER_HALF = list(range(models.LAYERS // 2))  # the layers without adapters
TASKS = ("a0", "a1")


@dataclasses.dataclass
class Row:
    """A row of times.

    Attributes:
        name: What is run.
        steps: By library.
        beside: The yardstick.
        aim: The highest ratio that is aimed at.
    """

    name: str
    steps: dict[str, Step]
    beside: Step
    aim: float | None = None


def checked(name: str, expected: Tensor, models_: dict[str, Any], ids: Tensor) -> dict[str, Step]:
    """Forward passes of several libraries, each compared with what it shall return."""
    steps = {library: forward(model, ids) for library, model in models_.items()}
    for library, step in steps.items():
        found: Any = step()
        agree(f"{name}, {library}", found, expected)
    return steps


def times(base: nn.Module) -> Iterator[Row]:
    """Yield the rows of times; the results of each have been compared."""
    ids = models.batch().to(next(base.parameters()).device)
    bare = forward(base, ids)
    yield Row("bare model against itself (the noise)", {OURS: forward(base, ids)}, bare)
    yield from fusions(base, ids, bare)
    yield two_tasks(base, ids, bare)
    yield from loras(base, ids, bare)
    yield from mixed(base, ids.reshape(64, -1))


def fusions(base: nn.Module, ids: Tensor, bare: Step) -> Iterator[Row]:
    """One adapter, and fusions: by the formula, from the whole outputs of their adapters."""
    one = Ours(base, [pfeiffer()])
    hub = {HUB: Hub(base, one).active("Stack")} if HAS_HUB else {}
    found = {OURS: one.active("a0"), **hub}
    yield Row("one adapter (Pfeiffer)", checked("one adapter", forward(found[OURS], ids)(), found, ids), bare)  # type: ignore[arg-type]
    for count, aim in ((2, 1.05), (4, 1.08), (8, 1.14), (16, 1.27)):
        name = f"Fuse of {count}"
        case, pool, hub = fused(base, count)
        found = {OURS: case.active(pool)} | {library: one.active("Fuse", name="fused") for library, one in hub.items()}
        expected = by_outputs(case, pool, forward(case.model, ids))
        yield Row(name, checked(name, expected, found, ids), bare, aim)
    case, pool, hub = fused(base, 8)
    found = {OURS: case.trained(pool)} | {library: one.trained() for library, one in hub.items()}
    yield trained("training step, Fuse of 8", found, ids, bare, 2.6)


def fused(base: nn.Module, count: int) -> tuple[Ours, gw.Fuse, dict[str, Hub]]:
    """Adapters and a fusion of them, ours and AdapterHub's where it is installed."""
    case = Ours(base, [pfeiffer()] * count)
    pool = gw.Fuse(*case.names, name="fused")
    case.adapters.add_fusion(pool)
    return case, pool, {HUB: Hub(base, case)} if HAS_HUB else {}


def trained(name: str, found: dict[str, Any], ids: Tensor, bare: Step, aim: float | None = None) -> Row:
    """Training steps, after a comparison of gradients."""
    for library, model in found.items():
        agree(f"{name}, gradient of {library}", gradient(model, ids), gradient(found[OURS], ids))
    return Row(name, {library: training(model, ids) for library, model in found.items()}, bare, aim)


def two_tasks(base: nn.Module, ids: Tensor, bare: Step) -> Row:
    """Two tasks over the same texts, with adapters in the upper half of the layers."""
    case = Ours(base, [gw.Pfeiffer(reduction_factor=models.REDUCTION, leave_out=UPPER_HALF)] * 2)
    expected = torch.cat([forward(case.alone(name), ids)() for name in TASKS])  # type: ignore[misc]  # tensors
    found = {OURS: case.active(gw.Replicate(*TASKS))}
    if HAS_HUB:
        found[HUB] = Hub(base, case).active("Parallel")
    name = "two tasks over one text, adapters in the upper half (Replicate; Parallel of adapters)"
    return Row(name, checked(name, expected, found, ids), bare, 1.55)


def loras(base: nn.Module, ids: Tensor, bare: Step) -> Iterator[Row]:
    """LoRAs beside peft: multiplied into the weights, and rows one by one."""
    one, peer = with_loras(base, 1, TARGETS)
    expected: Any = forward(plain(base, one, {"a0": 1}), ids)()
    yield Row("one LoRA", checked("one LoRA", expected, {OURS: one.active("a0"), PEFT: peer.one()}, ids), bare, 1.03)
    ours, peer = with_loras(base, 8, TARGETS)
    expected = forward(plain(base, ours, dict.fromkeys(ours.names, 1 / 8)), ids)()
    found = {OURS: ours.active(gw.Average(*ours.names)), PEFT: peer.weighted()}
    name = f"Average of 8 LoRAs (peft: one of rank {8 * RANK}, made of them)"
    yield Row(name, checked(name, expected, found, ids), bare)
    one, peer = with_loras(base, 1, TARGETS)
    yield trained("training step, one LoRA", {OURS: one.trained(), PEFT: peer.trained()}, ids, bare)
    yield each_its_own(base, [lora(TARGETS)] * 8, ids, "8 rows, each with a LoRA of its own", bare)
    short = ids.reshape(64, -1)
    name = "64 rows of 16 positions, each with a LoRA of its own"
    yield each_its_own(base, [lora(TARGETS)] * 64, short, name, forward(base, short), 1.06)


def mixed(base: nn.Module, ids: Tensor) -> Iterator[Row]:
    """Rows with an adapter each, beside one adapter for all rows."""
    one = forward(Ours(base, [pfeiffer()]).active("a0"), ids)
    name = "64 rows with 64 adapters, beside one adapter (adapters: BatchSplit)"
    yield each_its_own(base, [pfeiffer()] * 64, ids, name, one, 1.05)
    case, draw = Ours(base, [pfeiffer()] * 1000), random.Random(0)

    def fresh() -> object:
        return forward(case.mixed(draw.sample(case.names, len(ids))), ids)()

    some = draw.sample(case.names, len(ids))
    name = "64 others of 1,000 adapters in every batch, planning included, beside one adapter"
    checked(name, rows_alone(case, some, ids), {OURS: case.mixed(some)}, ids)
    yield Row(name, {OURS: fresh}, one, 1.10)


def each_its_own(
    base: nn.Module, configs: list[gw.AdapterConfig], ids: Tensor, name: str, beside: Step, aim: float | None = None
) -> Row:
    """A batch in which each row has its own adapter."""
    case, count = Ours(base, configs), len(configs)
    expected = rows_alone(case, case.names, ids)
    found = {OURS: case.active(gw.MixedBatch(case.names))}
    if isinstance(configs[0], gw.LoRA):
        found[PEFT] = Peft(base, case, TARGETS).mixed(count)
    elif HAS_HUB:
        found[HUB] = Hub(base, case).active("BatchSplit", batch_sizes=[1] * count)
    return Row(name, checked(name, expected, found, ids), beside, aim)


def rows_alone(case: Ours, names: list[str], ids: Tensor) -> Tensor:
    """What each row gives by itself, with its adapter."""
    found: list[Any] = [forward(case.alone(name), ids[n : n + 1])() for n, name in enumerate(names)]
    return torch.cat(found)


def pfeiffer() -> gw.AdapterConfig:
    """The adapter of most rows."""
    return gw.Pfeiffer(reduction_factor=models.REDUCTION)


def kept(base: nn.Module) -> dict[str, float]:
    """The MiB that a training step of a fusion of eight keeps for its backward pass, and full fine-tuning; with dropout."""
    ids = models.batch().to(next(base.parameters()).device)
    case, pool, hub = fused(base, 8)
    found = {OURS: case.trained(pool)} | {library: one.trained() for library, one in hub.items()}
    found[FULL] = models.bare().to(ids.device).requires_grad_(True)
    return {name: kept_for_backward(one.train(), lambda one=one: loss(one, ids)) / 2**20 for name, one in found.items()}  # type: ignore[misc]


def growth() -> dict[str, Timing]:
    """What adding one more adapter takes beside adding one to a few: the 1,000th of ours, the 300th of AdapterHub's."""
    adapters = gw.attach(models.bare(128))
    found = {OURS: ratios(lambda name: adapters.add(name, pfeiffer()), adapters.remove, 1000)}
    if HAS_HUB:
        import adapters as hub

        model: Any = models.bare(128)
        hub.init(model)
        config = hub.SeqBnConfig(reduction_factor=models.REDUCTION)
        found[HUB] = ratios(lambda name: model.add_adapter(name, config=config), model.delete_adapter, 300)
    return found


def ratios(add: Callable[[str], Any], remove: Callable[[str], Any], count: int) -> Timing:
    """Processor times of additions with so many there, by the median of those with a few."""

    def some() -> list[float]:
        seconds = []
        for _ in range(21):
            start = time.process_time()
            add("one")
            seconds.append(time.process_time() - start)
            remove("one")
        return seconds

    add("first")
    few = statistics.median(some())
    for n in range(count - 2):
        add(f"a{n}")
    many = some()
    return timing([one / few for one in many], statistics.median(many))
