"""The candidates, and the number of weights of each on a base, without heads: each is added to the base and counted."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from graftwork.api import Adapters
from graftwork.compose import Fuse, Learned, ScaLearn
from graftwork.errors import GraftworkError
from graftwork.methods import HyperformerPlusPlus, Pfeiffer, config_from_dict


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to train a model for a task; its key is the method's name in files if it is a method."""

    key: str
    label: str
    # `alone`: an adapter a task; `fuses`: over several; `joint`: weights of several tasks; `follows`: trained after another task;
    shape: str  # `no_adapter`; `measured`: by the user, and otherwise unknown
    trains_base: bool = False
    in_sequence: bool = True  # whether it costs at inference what an adapter after a branch costs


CANDIDATES = (
    Candidate("pfeiffer", "Pfeiffer", "alone"),
    Candidate("houlsby", "Houlsby", "alone"),
    Candidate("bottleneck", "Bottleneck with a skip", "alone"),
    Candidate("parallel", "Parallel", "alone", in_sequence=False),
    Candidate("compacter", "Compacter", "alone"),
    Candidate("compacter_plus_plus", "Compacter++", "alone"),
    Candidate("lora", "LoRA", "alone", in_sequence=False),
    Candidate("fusion", "AdapterFusion", "fuses", in_sequence=False),
    Candidate("scalearn", "ScaLearn", "fuses", in_sequence=False),
    Candidate("hyperformer_plus_plus", "Hyperformer++", "joint"),
    Candidate("together", "one Pfeiffer adapter for all tasks", "joint"),
    Candidate("pal", "PALs", "joint", trains_base=True, in_sequence=False),
    Candidate("intermediate", "Pfeiffer, learnt on a source first", "follows"),
    Candidate("full", "full fine-tuning", "no_adapter", trains_base=True, in_sequence=False),
    Candidate("head", "head only", "no_adapter", in_sequence=False),
)
KEYS = tuple(candidate.key for candidate in CANDIDATES)


@dataclasses.dataclass(frozen=True)
class Count:
    """The weights of a candidate, a task's own and those that all tasks share; or why it has none, and whether it fits."""

    own: int = 0
    shared: int = 0
    why_not: str = ""
    fits: bool = True

    def a_task(self, tasks: int) -> int | None:
        """The weights of one task with its part of the shared ones; ``None`` if they were not counted."""
        return None if self.why_not else self.own + math.ceil(self.shared / tasks)


@dataclasses.dataclass(frozen=True)
class Base:
    """A pretrained model: its name, the number of its weights, and the count of every candidate."""

    name: str
    parameters: int
    counts: Mapping[str, Count]

    @classmethod
    def of(cls, adapters: Adapters, name: str, pool: int = 2) -> Base:
        """Count every candidate on a model.

        Args:
            adapters: The handle of the model; it is left as it was.
            name: The model's name.
            pool: The number of adapters of a fusion.
        """
        return cls(name, adapters.summary().base, {key: _count(adapters, key, max(pool, 2)) for key in KEYS})


def _count(adapters: Adapters, key: str, pool: int) -> Count:
    base = adapters.summary().base
    try:
        if key in ("full", "head"):
            return Count(own=base if key == "full" else 0)
        if key in ("fusion", "scalearn"):  # the sources' adapters exist already
            own, *_, fusion = _weights(adapters, *[Pfeiffer()] * pool, learned=Fuse if key == "fusion" else ScaLearn)
            return Count(own + fusion)
        if key == "hyperformer_plus_plus":  # members, and the hypernetwork that makes the adapters of all
            whole, *members = _weights(adapters, HyperformerPlusPlus(tasks=("a", "b")))
            return Count(members[0], whole - sum(members))
        method = "pfeiffer" if key in ("together", "intermediate") else key
        (own,) = _weights(adapters, config_from_dict({"method": method}))
        return Count(shared=own) if key == "together" else Count(own, base if key == "pal" else 0)
    except GraftworkError as error:
        return Count(why_not=str(error), fits=False)


def _weights(adapters: Adapters, *configs: Any, learned: type[Learned] | None = None) -> list[int]:
    """Add adapters, and perhaps a trainable block over them; return the weights of them, their members and the block."""
    names = [f"recommend-{n}" for n in range(len(configs))]  # names that no other adapter has
    with contextlib.ExitStack() as added:
        for name, config in zip(names, configs, strict=True):
            adapters.add(name, config)
            added.callback(adapters.remove, name)
        if learned is not None:
            adapters.add_fusion(learned(*names))
            added.callback(adapters.remove, learned(*names))
        return [row.weights for row in adapters.summary().rows if names[0] in row.name or row.name in names]
