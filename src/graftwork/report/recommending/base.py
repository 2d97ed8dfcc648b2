"""The candidates, and what each weighs on a base: added to it and counted, heads aside; on the meta device that takes no memory."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import Any

from graftwork.api import Adapters
from graftwork.compose import Fuse, Learned, ScaLearn
from graftwork.errors import GraftworkError
from graftwork.methods import HyperformerPlusPlus, Pfeiffer, config_from_dict


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way of serving a task; its key is the method's name in files where it is one."""

    key: str
    label: str
    # `alone`: an adapter a task; `fuses`: over several; `joint`: weights of several tasks; `follows`: trained after another one;
    shape: str  # `no_adapter`; or `measured` by the user, and nothing else is known of it
    trains_base: bool = False
    in_sequence: bool = True  # whether, at inference, it adds what an adapter behind a branch adds


CANDIDATES = (
    Candidate("pfeiffer", "Pfeiffer", "alone"),
    Candidate("houlsby", "Houlsby", "alone"),
    Candidate("bottleneck", "Bottleneck with a skip", "alone"),
    Candidate("parallel", "Parallel", "alone", in_sequence=False),
    Candidate("compacter", "Compacter", "alone"),
    Candidate("compacter_plus_plus", "Compacter++", "alone"),
    Candidate("lora", "LoRA (peft)", "alone", in_sequence=False),
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
    """The weights of a candidate: each task's own, and those that all tasks share; or why not, and whether it fits at all."""

    own: int = 0
    shared: int = 0
    why_not: str = ""
    fits: bool = True

    def a_task(self, tasks: int) -> int | None:
        """The weights of one task, its part of what is shared included; ``None`` where it was not counted."""
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
            name: What the model is called.
            pool: How many adapters a fusion would be of.
        """
        return cls(name, adapters.summary().base, {key: _count(adapters, key, max(pool, 2)) for key in KEYS})


def _count(adapters: Adapters, key: str, pool: int) -> Count:
    base = adapters.summary().base
    try:
        if key in ("full", "head"):
            return Count(own=base if key == "full" else 0)
        if key in ("fusion", "scalearn"):  # the adapters of the sources are there already
            own, *_, learnt = _weights(adapters, *[Pfeiffer()] * pool, learned=Fuse if key == "fusion" else ScaLearn)
            return Count(own + learnt)
        if key == "hyperformer_plus_plus":  # members, and the hypernetwork that makes the adapters of all
            whole, *members = _weights(adapters, HyperformerPlusPlus(tasks=("a", "b")))
            return Count(members[0], whole - sum(members))
        if key == "lora":
            import peft

            return Count(_weights(adapters, peft.LoraConfig())[0])
        method = "pfeiffer" if key in ("together", "intermediate") else key
        (own,) = _weights(adapters, config_from_dict({"method": method}))
        return Count(shared=own) if key == "together" else Count(own, base if key == "pal" else 0)
    except ImportError:
        return Count(why_not="peft is not installed")
    except GraftworkError as error:
        return Count(why_not=str(error), fits=False)


def _weights(adapters: Adapters, *configs: Any, learned: type[Learned] | None = None) -> list[int]:
    """The weights of adapters, of their members, and of a block over them that learns, while they are on the model."""
    names = [f"recommend-{n}" for n in range(len(configs))]  # as nobody else's adapters are called
    with contextlib.ExitStack() as added, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peft settles by itself, such as the order of a Conv1D's axes
        for name, config in zip(names, configs, strict=True):
            adapters.add(name, config)
            added.callback(adapters.remove, name)
        if learned is not None:
            adapters.add_fusion(learned(*names))
            added.callback(adapters.remove, learned(*names))
        return [row.weights for row in adapters.summary().rows if names[0] in row.name or row.name in names]
