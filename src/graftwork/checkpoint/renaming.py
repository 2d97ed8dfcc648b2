"""A base whose modules have other names than when a file was written: stacks matched by their sizes and weights.

A new version of transformers may rename modules, a wrapper adds a path before all names. A stack of layers in the file whose name
the model does not have is matched with the model's stack of the same number of layers and the same width; where there are several,
with the one whose layers have the weights sampled in the file. An ambiguous stack keeps its name, and loading then refuses the
file for the layers that are missing.
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
    """From the names in a file to those in a model.

    Attributes:
        stacks: The path in the model of each stack in the file that the model has.
    """

    stacks: Mapping[str, str]

    @property
    def changes(self) -> bool:
        """Whether any name differs."""
        return any(old != new for old, new in self.stacks.items())

    def layer(self, path: str) -> str:
        """The model's path for a path into a layer, or for a site's key; any other text is returned as it is."""
        old = stack_of(path, self.stacks)
        return path if old is None else _moved(path, old, self.stacks[old])

    def path(self, path: str) -> str:
        """The model's path for a path in the base; outside the layers a module is renamed as the stack next to it."""
        if stack_of(path, self.stacks) is not None:
            return self.layer(path)
        around = [_around(old, new) for old, new in self.stacks.items() if old != new]
        inside = [(old, new) for old, new in around if not old or path.startswith(f"{old}.")]
        return _moved(path, *max(inside, key=lambda pair: len(pair[0]))) if inside else path

    def tensor(self, name: str) -> str:
        """The model's name for the name of a tensor in a file."""
        start, slash, rest = name.partition("/")
        if start == "norms":
            return f"norms/{self.path(rest)}"
        if (
            start == "shared"
        ):  # an adapter of peft has the path of the module that it changes, in a union after a number
            number, dot, path = rest.partition(".") if self.layer(rest) == rest else ("", "", rest)
            return f"shared/{number}{dot}{self.layer(path)}"
        return name if start == "head" else f"{self.layer(start)}{slash}{rest}"

    def composition(self, composition: C) -> C:
        """The composition with the model's names of the layers that a `Drop` in it leaves out."""
        if not isinstance(composition, Block):
            return composition
        return composition_from_dict(self.data(composition.to_dict()))  # type: ignore[return-value]  # the same type of block

    def data(self, value: Any) -> Any:
        """The JSON values with the model's path for every path to a layer in them (``"encoder.layer.3"``)."""
        if isinstance(value, Mapping):
            return {self.data(key): self.data(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.data(inner) for inner in value]
        return self.layer(value) if isinstance(value, str) else value


class Contents:
    """The weights in the layers of a model's base, searched by a few of their values."""

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
    """Return the stack of a model for each stack of a file; a stack that has none is left out.

    Args:
        stacks: The stacks of the file, with their number of layers and width.
        here: The stacks of the model.
        score: Takes a stack of each; returns how many of the sampled weights of the first are in the second.
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
    """The innermost stack that has a layer with this path inside; ``None`` where there is none."""
    inside = [stack for stack in stacks if layer_of(path, stack) is not None]
    return max(inside, key=len, default=None)


def layer_of(path: str, stack: str) -> int | None:
    """The index of the layer of a stack that a path is inside; ``None`` where it is not in the stack."""
    start = f"{stack}." if stack else ""
    number = path[len(start) :].partition(".")[0] if path.startswith(start) else ""
    return int(number) if number.isdecimal() else None


def _moved(path: str, old: str, new: str) -> str:
    """The path with ``new`` in place of ``old`` at its beginning."""
    rest = path[len(old) :].removeprefix(".")
    return f"{new}.{rest}" if new else rest


def _around(old: str, new: str) -> tuple[str, str]:
    """Two paths without the names at their ends that are the same."""
    one, other = old.split("."), new.split(".")
    while one and other and one[-1] == other[-1]:
        one.pop()
        other.pop()
    return ".".join(one), ".".join(other)


def telling(sample: Sample) -> bool:
    """Whether a weight can be found by its values: many weights have all values equal (zeros, ones)."""
    return len(set(sample)) > 1


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """Yield a weight, and where it is several in one tensor (experts, gate and up-projection) each of them."""
    yield tensor
    for inner in tensor.unbind() if tensor.dim() == 3 else ():
        yield inner
        yield from inner.chunk(2)
