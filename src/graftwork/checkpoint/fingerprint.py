"""The base that an adapter was trained on: the model's type, its layers and widths, and a few values of each weight.

Type and sizes are the same for two revisions of one model, sampled weights are not. The sample is kept as values, not as a hash:
so a copy of the base in half precision is recognised, and a weight that differs can be named. Another head, another pooler or a
longer vocabulary do not make it another base.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from graftwork.attach import Handle
from graftwork.attach.base_weights import Weight, base_weights, plain_name
from graftwork.checkpoint.renaming import Contents, Renaming, find, layer_of, stack_of, telling
from graftwork.errors import CheckpointError
from graftwork.weights.samples import Sample, same, sampled
from graftwork.weights.sharded import class_name


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What is known of a base.

    Attributes:
        model_type: The type in its configuration, else the name of its class.
        model_class: The name of the base model's class; for messages, not compared.
        stacks: Each stack of layers with its number of layers and its width.
        samples: A few values of each weight that can be read, by name (``None`` for a value that is not finite).
        rows: The number of rows of each table outside the layers, such as the embeddings: a model may have more of them.
    """

    model_type: str
    model_class: str
    stacks: dict[str, tuple[int, int]]
    samples: dict[str, Sample]
    rows: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, handle: Handle, *, sample: bool = True) -> Fingerprint:
        """The fingerprint of an attached model; without ``sample`` its weights are left out."""
        if handle.in_base is not None:
            raise CheckpointError(
                f"{handle.in_base.composition!r} is merged into the base, which is another one while it is; call unmerge() first"
            )
        base = getattr(handle.model, "base_model", None)
        base = base if isinstance(base, torch.nn.Module) else handle.model
        kind = getattr(getattr(handle.model, "config", None), "model_type", None) or class_name(base)
        weights, stacks = _telling_weights(handle) if sample else {}, _stacks(handle)
        rows = {n: len(w.tensor) for n, w in weights.items() if w.tensor.dim() == 2 and stack_of(n, stacks) is None}
        return cls(str(kind), class_name(base), stacks, {n: w.sample() for n, w in weights.items()}, rows)

    def to_dict(self) -> dict[str, Any]:
        """The fingerprint as JSON values."""
        return {
            "model_type": self.model_type,
            "model_class": self.model_class,
            "stacks": {name: {"layers": n, "width": w} for name, (n, w) in self.stacks.items()},
            "samples": {name: " ".join(map(repr, values)) for name, values in self.samples.items()},
            "rows": self.rows,
        }

    def misfit(self, other: Fingerprint) -> str | None:
        """Which other base a model is, in a clause: of another type, of another size, or with other stacks of layers.

        ``None`` where type and sizes are the same; weights are not compared.
        """
        differences, wanted = self.differences(other), f"load it on a {self.model_type!r}"
        if self.model_type != other.model_type:
            return f"a model of another type: {'; '.join(differences)}; {wanted} model"
        if self.stacks.keys() != other.stacks.keys():
            what = f"a {self.model_type!r} model with other stacks of layers"
            return f"{what}: {'; '.join(differences)}; {wanted} model with the same ones"
        if differences:
            return f"a {self.model_type!r} model of another size: {'; '.join(differences)}; {wanted} model of that size"
        return None

    def differences(self, other: Fingerprint) -> list[str]:
        """The differences in type and layers from another, in words; weights are not compared."""
        found = []
        if self.model_type != other.model_type:
            found.append(f"its model type is {self.model_type!r}, this one's {other.model_type!r}")
        for stack in dict.fromkeys((*self.stacks, *other.stacks)):
            name = stack or "the model"
            size, here = self.stacks.get(stack), other.stacks.get(stack)
            if size is None or here is None:
                found.append(f"{name} is a stack of layers in {'this one' if size is None else 'its base'} only")
                continue
            if size[0] != here[0]:
                found.append(f"{name} has {size[0]} layers in its base, {here[0]} here")
            if size[1] != here[1]:
                found.append(f"{name} is {size[1]} wide in its base, {here[1]} here")
        return found

    def renamed(self, renaming: Renaming) -> Fingerprint:
        """The same fingerprint with the names of another model."""
        stacks = {renaming.stacks.get(stack, stack): size for stack, size in self.stacks.items()}
        samples = {renaming.path(name): sample for name, sample in self.samples.items()}
        rows = {renaming.path(name): n for name, n in self.rows.items()}
        return dataclasses.replace(self, stacks=stacks, samples=samples, rows=rows)

    def renaming(self, handle: Handle) -> Renaming:
        """The renaming from the modules of this base to those of a model of the same type."""
        here = Fingerprint.of(handle, sample=False)
        if self.model_type != here.model_type or self.stacks.keys() <= here.stacks.keys():
            return Renaming({stack: stack for stack in self.stacks})
        contents = Contents(handle)

        def score(old: str, new: str) -> int:
            known = [(layer_of(name, old), s) for name, s in self.samples.items() if stack_of(name, self.stacks) == old]
            return sum(n is not None and telling(s) and contents.hold(new, n, s) for n, s in known)

        return Renaming(find(self.stacks, here.stacks, score))

    def changed_weights(self, handle: Handle) -> list[str]:
        """The names of the sampled weights that differ in an attached model, or are not there.

        A weight that is not there by its name is searched in its layer by its values. Quantised weights are not compared.
        """
        contents = Contents(handle)
        changed, compared = [], 0
        for name, sample in self.samples.items():
            weight, rows = contents.weights.get(name), self.rows.get(name)
            if weight is None:
                stack = stack_of(name, self.stacks)
                layer = None if stack is None else layer_of(name, stack)
                # Outside the layers a model of another class may have fewer weights.
                if stack is None or layer is None or _packed(handle, name) or not telling(sample):
                    continue
                known = contents.hold(stack, layer, sample)
            elif not weight.readable or (rows is not None and len(weight.tensor) < rows):
                continue
            else:
                values = weight.values()
                known = same(sample, sampled(values if rows is None else values[:rows]))
            compared += 1
            if not known:
                changed.append(name)
        return list(self.samples) if self.samples and not compared else changed


def _packed(handle: Handle, name: str) -> bool:
    """Whether a module stores its weight packed, and returns it from a method of that name."""
    path, _, leaf = name.rpartition(".")
    for module in (handle.sites.prefix + path, path):
        try:
            return callable(getattr(handle.model.get_submodule(module), leaf, None))
        except AttributeError:
            continue
    return False


def _telling_weights(handle: Handle) -> dict[str, Weight]:
    """The weights that identify a base: all but those of heads and poolers, which are new for every task."""
    left_out = {plain_name(handle, path) for path in (*handle.head_paths, *handle.unclear_heads)}
    return {
        name: weight
        for name, weight in base_weights(handle).items()
        if weight.readable
        and "pooler" not in name.split(".")
        and not any(name == path or name.startswith(f"{path}.") for path in left_out)
    }


def _stacks(handle: Handle) -> dict[str, tuple[int, int]]:
    """The number of layers and the width of each stack."""
    prefix = handle.sites.prefix
    widths: dict[str, int] = {}
    for site in handle.sites:
        widths[site.stack] = max(site.width, widths.get(site.stack, 0))
    return {stack.removeprefix(prefix): (layers, widths[stack]) for stack, layers in handle.sites.stacks.items()}
