"""What every candidate weighs on a base: each is added to it and counted, heads aside; on the meta device that takes no memory."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping

from graftwork.api import Adapters
from graftwork.compose import Fuse, Learned, ScaLearn
from graftwork.errors import GraftworkError
from graftwork.methods import AdapterConfig, HyperformerPlusPlus, Pfeiffer, config_from_dict
from graftwork.report.recommending.candidates import KEYS

_NAME = "recommend-{}"  # names that nobody else's adapters have


@dataclasses.dataclass(frozen=True)
class Count:
    """The weights of a candidate.

    Attributes:
        own: Of each task alone.
        shared: That all tasks have in common.
        why_not: Why it was not counted; empty where it was.
        fits: Whether it can stand in the base at all.
    """

    own: int = 0
    shared: int = 0
    why_not: str = ""
    fits: bool = True

    def a_task(self, tasks: int) -> int | None:
        """The weights of one task, its part of what is shared included; ``None`` where it was not counted."""
        return None if self.why_not else self.own + math.ceil(self.shared / tasks)


@dataclasses.dataclass(frozen=True)
class Base:
    """A pretrained model, as far as a choice depends on it.

    Attributes:
        name: What it is called.
        parameters: Number of its weights.
        counts: Those of every candidate.
    """

    name: str
    parameters: int
    counts: Mapping[str, Count]

    @classmethod
    def of(cls, grafts: Adapters, name: str, pool: int = 2) -> Base:
        """Count every candidate on a model.

        Args:
            grafts: The handle of the model; it is left as it was.
            name: What the model is called.
            pool: How many adapters a fusion would be of.
        """
        base = grafts.summary().base
        counters: dict[str, Callable[[], Count]] = {
            "lora": lambda: _lora(grafts),
            "fusion": lambda: _learned(grafts, Fuse, pool),
            "scalearn": lambda: _learned(grafts, ScaLearn, pool),
            "hyperformer_plus_plus": lambda: _members(grafts),
            "together": lambda: Count(shared=_alone(grafts, Pfeiffer()).own),
            "pal": lambda: dataclasses.replace(_alone(grafts, config_from_dict({"method": "pal"})), shared=base),
            "intermediate": lambda: _alone(grafts, Pfeiffer()),
            "full": lambda: Count(own=base),
            "head": Count,
        }
        return cls(name, base, {key: _tried(counters.get(key) or _of_method(grafts, key)) for key in KEYS})


def _tried(count: Callable[[], Count]) -> Count:
    try:
        return count()
    except GraftworkError as error:
        return Count(why_not=str(error), fits=False)


def _of_method(grafts: Adapters, key: str) -> Callable[[], Count]:
    return lambda: _alone(grafts, config_from_dict({"method": key}))


def _alone(grafts: Adapters, config: AdapterConfig) -> Count:
    name = _NAME.format("a")
    grafts.add(name, config)
    try:
        return Count(own=_weights(grafts, name))
    finally:
        grafts.remove(name)


def _lora(grafts: Adapters) -> Count:
    try:
        import peft
    except ImportError:
        return Count(why_not="peft is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft settles by itself, such as the order of a Conv1D's axes
        return _alone(grafts, peft.LoraConfig())


def _members(grafts: Adapters) -> Count:
    """What members have alone, and the hypernetwork that makes the adapters of all."""
    name, tasks = _NAME.format("a"), ("a", "b")
    grafts.add(name, HyperformerPlusPlus(tasks=tasks))
    try:
        own = _weights(grafts, f"{name}:{tasks[0]}")
        return Count(own=own, shared=_weights(grafts, name) - own * len(tasks))
    finally:
        grafts.remove(name)


def _learned(grafts: Adapters, kind: type[Learned], pool: int) -> Count:
    """The task's own adapter and what is learnt over the pool; the sources' adapters are there already."""
    names = [_NAME.format(n) for n in range(max(pool, 2))]
    try:
        for name in names:
            grafts.add(name, Pfeiffer())
        block = kind(*names)
        grafts.add_fusion(block)
        try:
            return Count(own=_weights(grafts, names[0]) + _weights(grafts, block.name))
        finally:
            grafts.remove(block)
    finally:
        for name in names:
            if name in grafts.names:
                grafts.remove(name)


def _weights(grafts: Adapters, name: str) -> int:
    return grafts.summary().row(name).weights
