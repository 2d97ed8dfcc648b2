"""A base whose modules are called otherwise than when a file was written: stacks matched by their sizes and contents.

A version of transformers renames modules, a wrapper puts a path in front of all of them. A stack of layers that is there
under no name of the file's is the one of the same number of layers and the same width, and where several are, the one
whose layers hold the weights that the file knows. What is ambiguous is left as it is, and refused for what it lacks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor

from graftwork.attach import Handle
from graftwork.attach.base_weights import base_weights, plain_name
from graftwork.compose import Block, Composition, composition_from_dict
from graftwork.weights.samples import Sample, same, sampled

Size = tuple[int, int]
C = TypeVar("C", bound=Composition)


@dataclasses.dataclass(frozen=True)
class Renaming:
    """From the names in a file to those of a model.

    Attributes:
        stacks: For each stack of the file that is here its path here.
    """

    stacks: Mapping[str, str]

    @property
    def changes(self) -> bool:
        """Whether anything is called otherwise."""
        return any(old != new for old, new in self.stacks.items())

    def layer(self, path: str) -> str:
        """A path into a layer of the base, or a site's key, as it is here; any other text itself."""
        old = stack_of(path, self.stacks)
        return path if old is None else _moved(path, old, self.stacks[old])

    def path(self, path: str) -> str:
        """A path in the base as it is here: outside the layers what is around a stack goes the way of the stack."""
        if stack_of(path, self.stacks) is not None:
            return self.layer(path)
        around = [_around(old, new) for old, new in self.stacks.items() if old != new]
        inside = [(old, new) for old, new in around if not old or path.startswith(f"{old}.")]
        return _moved(path, *max(inside, key=lambda pair: len(pair[0]))) if inside else path

    def tensor(self, name: str) -> str:
        """The name of a tensor in a file, as it is here."""
        start, slash, rest = name.partition("/")
        if start == "norms":
            return f"norms/{self.path(rest)}"
        if start == "shared":  # adapters of peft are called by the modules that they change, in a union after a number
            number, dot, path = rest.partition(".") if self.layer(rest) == rest else ("", "", rest)
            return f"shared/{number}{dot}{self.layer(path)}"
        return name if start == "head" else f"{self.layer(start)}{slash}{rest}"

    def composition(self, composition: C) -> C:
        """A composition, with the layers that a `Drop` in it names as they are called here."""
        if not isinstance(composition, Block):
            return composition
        return composition_from_dict(self.data(composition.to_dict()))  # type: ignore[return-value]  # of the same kind

    def data(self, value: Any) -> Any:
        """JSON values with every path to a layer in them (``"encoder.layer.3"``) as it is here."""
        if isinstance(value, Mapping):
            return {self.data(key): self.data(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.data(inner) for inner in value]
        return self.layer(value) if isinstance(value, str) else value


class Contents:
    """What the layers of a model's base hold, looked up by a few values."""

    def __init__(self, handle: Handle) -> None:
        self.weights = base_weights(handle)
        self._blocks: dict[tuple[str, int], tuple[str, ...]] = {}
        prefix = handle.sites.prefix
        for site in handle.sites:
            key = site.stack.removeprefix(prefix), site.layer
            block = plain_name(handle, f"{site.block}.") if site.block else ""
            self._blocks[key] = (*self._blocks.get(key, ()), block)
        self._samples: dict[tuple[str, int], list[Sample]] = {}

    def hold(self, stack: str, layer: int, sample: Sample) -> bool:
        """Whether a weight of a layer, or a part of one, has the values of a sample."""
        key = stack, layer
        if key not in self._samples:
            inside = [w for name, w in self.weights.items() if name.startswith(self._blocks.get(key, "\0"))]
            self._samples[key] = [sampled(part) for w in inside if w.readable for part in _parts(w.values())]
        return any(same(sample, other) for other in self._samples[key])


def find(stacks: Mapping[str, Size], here: Mapping[str, Size], score: Callable[[str, str], int]) -> dict[str, str]:
    """Which stack of a model each stack of a file is.

    Args:
        stacks: Those of the file, with their number of layers and width.
        here: Those of the model.
        score: How many of the weights known of a stack of the file a stack of the model holds.
    """
    found = {stack: stack for stack in stacks if stack in here}
    free = [stack for stack in here if stack not in found]
    fits = {old: [new for new in free if here[new] == stacks[old]] for old in stacks if old not in found}
    for old, candidates in fits.items():
        rivals = [other for other in fits if other != old and set(fits[other]) & set(candidates)]
        if len(candidates) == 1 and not rivals:
            found[old] = candidates[0]
        elif candidates:
            scores = sorted(((score(old, new), new) for new in candidates), reverse=True)
            if scores[0][0] and (len(scores) == 1 or scores[0][0] > scores[1][0]):
                found[old] = scores[0][1]
    return found if len(set(found.values())) == len(found) else {stack: stack for stack in stacks if stack in here}


def stack_of(path: str, stacks: Iterable[str]) -> str | None:
    """The innermost of some stacks that a path leads into a layer of; ``None`` where that is none."""
    inside = [stack for stack in stacks if layer_of(path, stack) is not None]
    return max(inside, key=len, default=None)


def layer_of(path: str, stack: str) -> int | None:
    """The layer of a stack that a path leads into."""
    start = f"{stack}." if stack else ""
    number = path[len(start) :].partition(".")[0] if path.startswith(start) else ""
    return int(number) if number.isdecimal() else None


def _moved(path: str, old: str, new: str) -> str:
    rest = path[len(old) :].removeprefix(".")
    return f"{new}.{rest}" if new else rest


def _around(old: str, new: str) -> tuple[str, str]:
    """Two paths without the names at their end that they have in common."""
    one, other = old.split("."), new.split(".")
    while one and other and one[-1] == other[-1]:
        one.pop()
        other.pop()
    return ".".join(one), ".".join(other)


def telling(sample: Sample) -> bool:
    """Whether a weight can be found by its values: one of equal values (zeros, ones) is like many."""
    return len(set(sample)) > 1


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """A weight, and where several are kept in one (experts, gate and up-projection) each of them."""
    yield tensor
    for inner in tensor.unbind() if tensor.dim() == 3 else ():
        yield inner
        yield from inner.chunk(2)
