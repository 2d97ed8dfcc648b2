"""The data of a record: values, module calls, and where tensors are in what a module takes and returns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch

from graftwork.sites.site import Tap


class Passing(NamedTuple):
    """A value that enters or leaves a module call, and the slot where a hook finds it (`None` slots only at outputs)."""

    value: int
    slot: int | str | None
    reachable: bool


@dataclasses.dataclass(slots=True)
class Value:
    """One tensor at one time: the operation that made it, its inputs, and the module calls open then (outermost first)."""

    index: int
    op: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    calls: tuple[int, ...]
    name: str | None = None
    constants: tuple[float, ...] = ()
    alpha: float = 1.0
    returned_by: list[int] = dataclasses.field(default_factory=list)
    taken_by: list[int] = dataclasses.field(default_factory=list)

    @property
    def is_float(self) -> bool:
        """Whether it holds real or complex numbers."""
        return self.dtype.is_floating_point or self.dtype.is_complex

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)


@dataclasses.dataclass(slots=True)
class Call:
    """One call of a module: the `nth` of that module, entered and left at ticks of the record's clock."""

    index: int
    path: str
    nth: int
    module: torch.nn.Module
    parent: int | None
    depth: int
    entered: int
    first_value: int
    left: int = -1
    inputs: list[Passing] = dataclasses.field(default_factory=list)
    outputs: list[Passing] = dataclasses.field(default_factory=list)

    def input_tap(self, value: int) -> Tap | None:
        """The tap where the call takes a value; ``None`` where no hook can reach it."""
        found = (Tap(self.path, "input", p.slot, self.nth) for p in self.inputs if p.value == value and p.reachable)
        return next(found, None)

    def output_tap(self, value: int) -> Tap | None:
        """The tap where the call returns a value; ``None`` where no hook can reach it."""
        found = (Tap(self.path, "output", p.slot, self.nth) for p in self.outputs if p.value == value and p.reachable)
        return next(found, None)


def tensors_in(structure: Any, depth: int = 0) -> Iterable[torch.Tensor]:
    """Every tensor in nested tuples, lists, mappings and dataclasses."""
    if isinstance(structure, torch.Tensor):
        yield structure
    elif isinstance(structure, Mapping):
        for item in structure.values():
            yield from tensors_in(item, depth + 1)
    elif isinstance(structure, tuple | list | set):
        for item in structure:
            yield from tensors_in(item, depth + 1)
    elif depth < 3 and dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        for field in dataclasses.fields(structure):
            yield from tensors_in(getattr(structure, field.name, None), depth + 1)


def slots_of(structure: Any, at_output: bool) -> Iterable[tuple[torch.Tensor, int | str | None, bool]]:
    """Tensors with the slot that a hook finds them in, and whether it can: a tensor nested deeper has no slot."""
    if isinstance(structure, torch.Tensor):
        yield structure, None, at_output
        return
    if isinstance(structure, Mapping):
        items: Iterable[tuple[Any, Any]] = structure.items()
    elif isinstance(structure, tuple | list):
        items = enumerate(structure)
    else:
        items = [(None, structure)]  # a dataclass of no known layout: recorded, but no hook can reach its tensors
    for slot, item in items:
        if isinstance(item, torch.Tensor):
            yield item, slot, isinstance(slot, int | str)
        else:
            for tensor in tensors_in(item):
                yield tensor, None, False


def is_list_child(path: str) -> bool:
    """Whether a dotted path ends in a number."""
    return path.rpartition(".")[2].isdigit()
