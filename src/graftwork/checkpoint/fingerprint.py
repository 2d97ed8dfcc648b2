"""What an adapter was trained on: the model's type, its layers and widths, and a few values of each of its weights.

Type and sizes cannot tell two revisions of one model apart, sampled weights can. The sample is kept as values, not as a
hash: so a copy of the base in half precision is recognised, and a difference can be named. A head, a pooler or a longer
vocabulary do not make another base.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch

from graftwork.attach import Handle
from graftwork.attach.base_weights import Weight, base_weights, plain_name
from graftwork.checkpoint.renaming import Contents, Renaming, find, layer_of, stack_of, telling
from graftwork.errors import CheckpointError
from graftwork.weights.samples import Sample, same, sampled


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What is known of a base.

    Attributes:
        model_type: The type that its configuration names, else its class's name.
        model_class: Name of the class of the base model; told to the reader, not compared.
        stacks: Each stack of layers with its number of layers and its width.
        samples: Every weight whose values can be looked at: name to some of them (``None`` for one that is not finite).
        rows: The number of rows of each table outside the layers, such as the embeddings: here one may be longer.
    """

    model_type: str
    model_class: str
    stacks: dict[str, tuple[int, int]]
    samples: dict[str, Sample]
    rows: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, handle: Handle, *, sample: bool = True) -> Fingerprint:
        """That of an attached model, its weights looked at or not."""
        if handle.in_base is not None:
            raise CheckpointError(
                f"{handle.in_base.composition!r} is merged into the base, which is another one while it is; call unmerge() first"
            )
        base = getattr(handle.model, "base_model", None)
        base = base if isinstance(base, torch.nn.Module) else handle.model
        kind = getattr(getattr(handle.model, "config", None), "model_type", None) or type(base).__name__
        weights, stacks = _telling_weights(handle) if sample else {}, _stacks(handle)
        rows = {n: len(w.tensor) for n, w in weights.items() if w.tensor.dim() == 2 and stack_of(n, stacks) is None}
        return cls(str(kind), type(base).__name__, stacks, {n: w.sample() for n, w in weights.items()}, rows)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "model_type": self.model_type,
            "model_class": self.model_class,
            "stacks": {name: {"layers": n, "width": w} for name, (n, w) in self.stacks.items()},
            "samples": {name: " ".join(map(repr, values)) for name, values in self.samples.items()},
            "rows": self.rows,
        }

    def differences(self, other: Fingerprint) -> list[str]:
        """In words, what the type and the layers of another differ in; its weights are not compared."""
        found = []
        if self.model_type != other.model_type:
            found.append(f"its model type is {self.model_type!r}, this one's {other.model_type!r}")
        for stack in dict.fromkeys((*self.stacks, *other.stacks)):
            name = stack or "the model"
            if stack not in self.stacks or stack not in other.stacks:
                found.append(
                    f"{name} is a stack of layers in {'this one' if stack in other.stacks else 'its base'} only"
                )
                continue
            (layers, width), (here, here_width) = self.stacks[stack], other.stacks[stack]
            if layers != here:
                found.append(f"{name} has {layers} layers in its base, {here} here")
            if width != here_width:
                found.append(f"{name} is {width} wide in its base, {here_width} here")
        return found

    def renamed(self, renaming: Renaming) -> Fingerprint:
        """The same with the names of another model; of its samples those outside the stacks keep theirs."""
        stacks = {renaming.stacks.get(stack, stack): size for stack, size in self.stacks.items()}
        samples = {renaming.path(name): sample for name, sample in self.samples.items()}
        rows = {renaming.path(name): n for name, n in self.rows.items()}
        return dataclasses.replace(self, stacks=stacks, samples=samples, rows=rows)

    def renaming(self, handle: Handle) -> Renaming:
        """How what a file says of this base is called in a model of the same type."""
        here = Fingerprint.of(handle, sample=False)
        if self.model_type != here.model_type or self.stacks.keys() <= here.stacks.keys():
            return Renaming({stack: stack for stack in self.stacks})
        contents = Contents(handle)

        def score(old: str, new: str) -> int:
            known = [(layer_of(name, old), s) for name, s in self.samples.items() if stack_of(name, self.stacks) == old]
            return sum(n is not None and telling(s) and contents.hold(new, n, s) for n, s in known)

        return Renaming(find(self.stacks, here.stacks, score))

    def changed_weights(self, handle: Handle) -> list[str]:
        """Which sampled weights an attached model has otherwise, or not at all; quantised ones cannot be told.

        A weight that is not there by its name is looked for in its layer by its values.
        """
        contents = Contents(handle)
        changed, compared = [], 0
        for name, sample in self.samples.items():
            weight, rows = contents.weights.get(name), self.rows.get(name)
            if weight is None:
                # Outside the layers another class of model may have less than that which was saved.
                if stack_of(name, self.stacks) is None or _packed(handle, name) or not telling(sample):
                    continue
                known = _found(name, sample, self.stacks, contents)
            elif not weight.readable or (rows is not None and len(weight.tensor) < rows):
                continue
            else:
                values = weight.values()
                known = same(sample, sampled(values if rows is None else values[:rows]))
            compared += 1
            if not known:
                changed.append(name)
        return list(self.samples) if self.samples and not compared else changed


def _found(name: str, sample: Sample, stacks: Iterable[str], contents: Contents) -> bool:
    """Whether the layer that a name leads into has the values of a sample under another name."""
    stack = stack_of(name, stacks)
    layer = None if stack is None else layer_of(name, stack)
    return stack is not None and layer is not None and contents.hold(stack, layer, sample)


def _packed(handle: Handle, name: str) -> bool:
    """Whether a module keeps its weight packed, and gives it by a method only."""
    path, _, leaf = name.rpartition(".")
    for module in (handle.sites.prefix + path, path):
        try:
            return callable(getattr(handle.model.get_submodule(module), leaf, None))
        except AttributeError:
            continue
    return False


def _telling_weights(handle: Handle) -> dict[str, Weight]:
    """The weights by which a base is known: all but those of heads and poolers, which begin anew with every task."""
    aside = {plain_name(handle, path) for path in (*handle.head_paths, *handle.unclear_heads)}
    return {
        name: weight
        for name, weight in base_weights(handle).items()
        if weight.readable
        and "pooler" not in name.split(".")
        and not any(name == path or name.startswith(f"{path}.") for path in aside)
    }


def _stacks(handle: Handle) -> dict[str, tuple[int, int]]:
    prefix = handle.sites.prefix
    widths: dict[str, int] = {}
    for site in handle.sites:
        widths[site.stack] = max(site.width, widths.get(site.stack, 0))
    return {stack.removeprefix(prefix): (layers, widths[stack]) for stack, layers in handle.sites.stacks.items()}
