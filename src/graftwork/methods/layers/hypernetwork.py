"""Adapters made by a hypernetwork (Mahabadi et al. 2021, arXiv:2106.04489).

    I = norm(W_2 relu(W_1 [z_task ; z_layer ; z_kind] + b_1) + b_2)         the condition, one for each task and place
    w = G_w I + c_w         for w each of D, b_D, U, b_U, γ, β              the made weights

A `Condition` makes I, `Generators` make the weights of one adapter from it, and a `TaskAdapter` computes with them. Where
all of these are fixed, the weights are made once for each task and kept; where they are trained, in the graph of every
forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graftwork.methods.layers.activations import activation
from graftwork.methods.layers.affine import Affine
from graftwork.methods.layers.contract import AdapterModule, Context, cast
from graftwork.methods.layers.members import MemberWeights
from graftwork.methods.layers.weight_cache import WeightCache
from graftwork.sites import Site


class Made(NamedTuple):
    """The weights of one adapter: ``down (r, d)``, ``up (d, r)``, their biases, and gain and bias of the norm after them."""

    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor
    gain: Tensor
    bias: Tensor

    def to(self, device: torch.device) -> Made:
        """Return the same weights on a device."""
        return Made(*(weight.to(device) for weight in self))


class Generators(nn.Module):
    """One affine map from the condition to each weight of an adapter of width ``size`` in a stream of ``width``.

    The gain starts around 0, not at 1, which keeps the adapter small. With ``zero`` gain and bias start at exactly 0.
    """

    def __init__(self, condition: int, width: int, size: int, std: float, dtype: torch.dtype, *, zero: bool) -> None:
        super().__init__()
        self.width = width
        sizes = (size * width, size, width * size, width, width, width)
        self.to_weight = nn.ModuleDict(
            {name: Affine(condition, n, std, dtype) for name, n in zip(Made._fields, sizes, strict=True)}
        )
        if zero:
            for name in ("gain", "bias"):
                nn.init.zeros_(self.to_weight[name].weight)  # type: ignore[arg-type]

    def forward(self, condition: Tensor) -> Made:
        """Return the weights for a condition ``(c,)``."""
        made = {name: affine(condition) for name, affine in self.to_weight.items()}
        made["down"] = made["down"].unflatten(0, (-1, self.width))
        made["up"] = made["up"].unflatten(0, (self.width, -1))
        return Made(**made)


class Condition(nn.Module):
    """The part of the hypernetwork that the sites of one stack of layers share.

    Attributes:
        layers: The layers that have an embedding, in its order; none where every site has generators of its own.
        kinds: The kinds of sites that have one, likewise.
        layer_vectors: The layers' embeddings ``(layers, size)``.
        kind_vectors: The kinds' embeddings ``(kinds, size)``.
        generators: The generators of all sites, ``None`` where each has its own.
    """

    def __init__(
        self,
        size: int,
        hidden: int,
        std: float,
        dtype: torch.dtype,
        layers: Sequence[int] = (),
        kinds: Sequence[str] = (),
        generators: Generators | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.kinds = tuple(layers), tuple(kinds)
        self.layer_vectors = nn.Parameter(torch.randn(len(layers), size, dtype=dtype)) if layers else None
        self.kind_vectors = nn.Parameter(torch.randn(len(kinds), size, dtype=dtype)) if kinds else None
        self.first = Affine(size * (1 + bool(layers) + bool(kinds)), hidden, std, dtype)
        self.second = Affine(hidden, size, std, dtype)
        self.norm = nn.LayerNorm(size, eps=1e-6, dtype=dtype)
        self.generators = generators

    def forward(self, task: Tensor, layer: int, kind: str) -> Tensor:
        """Return the condition ``(size,)`` for a task's embedding ``(size,)`` at a layer and a kind of site."""
        parts = [task]
        if self.layer_vectors is not None:
            parts.append(self.layer_vectors[self.layers.index(layer)])
        if self.kind_vectors is not None:
            parts.append(self.kind_vectors[self.kinds.index(kind)])
        return self.norm(self.second(torch.relu(self.first(torch.cat(parts)))))


class Embedding(nn.Module):
    """The embedding of one task: ``vector (size,)``, from N(0, 1)."""

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(size, dtype=dtype))


class Hypernetworks(MemberWeights):
    """One hypernetwork for each stack (a T5's encoder and decoder), and the tasks' embeddings, which all of them read."""

    def __init__(self, tasks: Sequence[str], size: int, dtype: torch.dtype, stacks: dict[str, Condition]) -> None:
        self.size, self.dtype = size, dtype
        super().__init__(tasks)
        self.places = {stack: n for n, stack in enumerate(stacks)}
        self.conditions = nn.ModuleList(stacks.values())

    def new(self) -> Embedding:
        return Embedding(self.size, self.dtype)


class HyperModule(AdapterModule):
    """The adapters of all tasks at one site; it has generators of its own, or uses those of the stack.

    `forward` is for an adapter with one task; with several `member` returns the adapter of each.
    """

    shared: Hypernetworks

    def __init__(
        self, reads: str, shared: Hypernetworks, site: Site, activation: str, generators: Generators | None
    ) -> None:
        super().__init__(reads=reads, writes="branch", shared=shared)
        self.stack, self.layer, self.kind, self.activation = site.stack, site.layer, site.kind, activation
        self.generators = generators
        self._tasks: dict[str, TaskAdapter] = {}  # no children: they have no weights of their own

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tasks": {}}  # these were made of this module's weights, not of the copy's

    @property
    def condition(self) -> Condition:
        """The hypernetwork of this site's stack."""
        return self.shared.conditions[self.shared.places[self.stack]]  # type: ignore[return-value]

    def member(self, name: str) -> TaskAdapter | None:
        if name not in self.shared.names:
            return None
        if name not in self._tasks:
            self._tasks[name] = TaskAdapter(self, name)
        return self._tasks[name]

    def made_of(self, task: str) -> list[Tensor]:
        """Return every weight that a task's adapter is made of; those of other tasks are not included."""
        return [*self.shared.of(task).parameters(), *self.condition.parameters(), *self.parameters()]

    def make(self, task: str) -> Made:
        """Make the weights of a task's adapter at this site."""
        condition = self.condition(self.shared.of(task).vector, self.layer, self.kind)
        if self.generators is not None:
            return self.generators(condition.to(self.generators.to_weight["gain"].weight.device))
        assert self.condition.generators is not None
        return self.condition.generators(condition)

    def forward(self, read: Tensor, context: Context) -> Tensor:
        (only,) = self.shared.names
        task = self.member(only)
        assert task is not None
        return task(read, context)


class TaskAdapter(AdapterModule):
    """One task's adapter at one site, ``γ ⊙ norm(U φ(D h + b_D) + b_U) + β``, with weights made by the hypernetwork."""

    site: HyperModule

    def __init__(self, site: HyperModule, task: str) -> None:
        super().__init__(reads=site.reads, writes=site.writes, shared=site.shared)
        self.__dict__["site"] = site  # no child of this one
        self.task = task
        self._device: torch.device | None = None
        self.kept: WeightCache[Made] = WeightCache(self._make)

    def weights(self) -> list[Tensor]:
        return self.site.made_of(self.task)

    def _make(self) -> Made:
        made = self.site.make(self.task)
        return made if self._device is None else made.to(self._device)

    def made(self, device: torch.device) -> Made:
        """Return the weights on a device, kept while what they are made of is fixed."""
        if device != self._device:
            self.kept.drop()
            self._device = device
        return self.kept.get(self.weights())

    def exported(self) -> dict[str, Tensor]:
        w = self.made(self.weights()[-1].device)
        names = ("down", "down_bias", "up", "up_bias", "norm_after.weight", "norm_after.bias")
        return {name: value.detach().clone() for name, value in zip(names, w, strict=True)}

    def forward(self, read: Tensor, context: Context) -> Tensor:
        w = self.made(read.device)
        act = activation(self.site.activation)
        features = act(nn.functional.linear(read, cast(w.down, read), cast(w.down_bias, read)))
        delta = nn.functional.linear(features, cast(w.up, read), cast(w.up_bias, read))
        return nn.functional.layer_norm(delta, (delta.shape[-1],), cast(w.gain, delta), cast(w.bias, delta))
