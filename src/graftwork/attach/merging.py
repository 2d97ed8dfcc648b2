"""A new adapter whose weights are a weighted sum of those of others.

    θ = Σ_n w_n θ_n + (1 − Σ_n w_n) θ_0

With weights that add up to one this is an average (AdapterSoup, Chronopoulou et al. 2023, arXiv:2302.07027), and θ_0
takes no part. Otherwise it is task arithmetic (Ilharco et al. 2022, arXiv:2212.04089), θ_0 + Σ w_n (θ_n − θ_0): θ_0 is
an adapter that is named as the common start, and zero where none is; a norm of the adapter's own starts as the base's.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from graftwork.attach import building
from graftwork.attach.members import Exported
from graftwork.attach.merged_heads import merged_head
from graftwork.attach.norms import norms_at
from graftwork.attach.state import ModelState
from graftwork.errors import ConfigError
from graftwork.methods import AdapterModule, NormModule
from graftwork.options import is_number
from graftwork.weights.names import check_new


class Alike(NamedTuple):
    """How alike the weights of two adapters are, less their common start where one is named.

    Attributes:
        cosine: Of all weights as one vector, from −1 to 1.
        signs: The share of weights with equal signs, of those that are zero in neither.
    """

    cosine: float
    signs: float


@dataclasses.dataclass(frozen=True)
class Merged:
    """What `merge` made, printable.

    Whether the adapters began at the same start cannot be seen from their weights; `alike` shows what comes of it:
    adapters from one start stay close in most weights, those from different ones stand at right angles, and their mean
    is then as near to nothing as to any of them.

    Attributes:
        name: The new adapter.
        weights: The adapters that it was made of, with their weights.
        start: The adapter that was named as their common start.
        head: The adapters that its head was made of.
        alike: For each two of them how alike they are.
    """

    name: str
    weights: Mapping[str, float]
    start: str | None
    head: tuple[str, ...]
    alike: Mapping[tuple[str, str], Alike]

    def __str__(self) -> str:
        parts = " + ".join(f"{weight:g} · {name}" for name, weight in self.weights.items())
        start = "" if self.start is None else f" + {_rest(self.weights):g} · {self.start}"
        lines = [f"{self.name} = {parts}{start}", f"head: {' and '.join(self.head) or 'none'}"]
        pairs = [f"{a}, {b}: cosine {r.cosine:.3f}, equal signs {r.signs:.1%}" for (a, b), r in self.alike.items()]
        return "\n".join([*lines, *pairs])


class _Parts(NamedTuple):
    """The weights of one adapter: its modules by site, which refer to what they share, and the norms it owns."""

    modules: dict[int, AdapterModule]
    norms: dict[int, nn.Module]

    def named(self) -> dict[str, nn.Module]:
        """Everything that has weights, by what it is called in messages."""
        shared = building.shared_by(self.modules, self.norms)
        found: dict[str, nn.Module] = {f"site {n}": module for n, module in self.modules.items()}
        found |= {f"norm {n}": module for n, module in self.norms.items()}
        return found if shared is None else {**found, "what its sites share": shared}


def merge(
    state: ModelState,
    name: str,
    of: Mapping[str, float] | Sequence[str],
    start: str | None,
    head_from: str | None,
) -> tuple[Exported, Merged]:
    """The new adapter, not added yet, and what it was made of; see `graftwork.attach.registry.Registry.merge`."""
    weights = _weights(of)
    check_new(name, state, "an adapter")
    for member in (*weights, *(() if start is None else (start,))):
        if state.owner_of(member) != member:
            raise ConfigError(
                f"merge: {member!r} is made of the weights of {state.owner_of(member)!r}; export({member!r}, …) it first, "
                "and merge what that gives"
            )
        state.require_plain_adapter(member)
        if member in state.peft_adapters:
            raise ConfigError(
                f"merge({name!r}): {member!r} is computed by peft, whose factors have no sum of their own; use peft's "
                "add_weighted_adapter, or activate the adapters in a Stack"
            )
    factors = dict(weights)
    rest = _rest(weights)
    if start is not None:
        factors[start] = factors.get(start, 0.0) + rest
    parts = {member: _parts_of(state, member) for member in factors}
    _refuse_unlike(state, parts)
    head, heads = merged_head(state, factors, head_from)
    first = next(iter(parts))
    made = copy.deepcopy(parts[first])  # at once, so that the copies refer to the copy of what they share
    for module in made.modules.values():
        module.set_trainable(False)
    base = {f"norm {n}": state.model.get_submodule(state.sites.norms[n]) for n in made.norms}
    sources = [(parts[member].named(), factor) for member, factor in factors.items()]
    if start is None and rest:
        if any(isinstance(norm, NormModule) for norm in made.norms.values()):
            raise ConfigError(
                f"merge({name!r}): the weights add up to {1 - rest:g}, and norms that a method makes have no start in the base; "
                "give weights that add up to 1, or name the common start with start="
            )
        sources.append((base, rest))
    for key, part in made.named().items():
        _fill(part, [(named[key], factor) for named, factor in sources if key in named], f"merge({name!r}): {key}")
    alike = _all_alike({m: parts[m].named() for m in weights}, None if start is None else parts[start].named())
    return Exported(state.adapter_config(first), made.modules, made.norms, head), Merged(
        name, weights, start, heads, alike
    )


def _rest(weights: Mapping[str, float]) -> float:
    """What is left to the start."""
    rest = 1.0 - math.fsum(weights.values())
    return rest if abs(rest) > 1e-9 else 0.0  # thirds do not add up to one exactly


def _weights(of: Mapping[str, float] | Sequence[str]) -> dict[str, float]:
    """A weight for each adapter, equal ones where only names are given."""
    if isinstance(of, str) or not isinstance(of, Iterable):
        raise ConfigError(f"merge takes the adapters' names, or their names with weights, not {of!r}")
    given = dict(of) if isinstance(of, Mapping) else dict.fromkeys(of, 0.0)
    if not given or (not isinstance(of, Mapping) and len(given) != len(of)):
        raise ConfigError(f"merge of {list(of)}: give one adapter or more, each once")
    if not isinstance(of, Mapping):
        return dict.fromkeys(given, 1.0 / len(given))
    for member, weight in given.items():
        if not is_number(weight):
            raise ConfigError(f"merge: the weight of {member!r} is {weight!r}; give a finite number")
    return {member: float(weight) for member, weight in given.items()}


def _parts_of(state: ModelState, name: str) -> _Parts:
    return _Parts(state.adapter_modules(name), norms_at(state.model, state.sites, name))


def _refuse_unlike(state: ModelState, parts: Mapping[str, _Parts]) -> None:
    """Only weights that mean the same can be added up."""
    first, *others = parts
    like = state.adapter_config(first)
    shapes = _shapes(parts[first])
    for other in others:
        config = state.adapter_config(other)
        if config != like:
            mine, theirs = like.to_dict(), config.to_dict()
            differ = sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k))
            said = "; ".join(f"{k} is {mine.get(k)!r} and {theirs.get(k)!r}" for k in differ)
            raise ConfigError(
                f"{first!r} and {other!r} cannot be merged: {said}. Merge adapters of one configuration, or use "
                f"Average({first!r}, {other!r}), which adds up what they compute"
            )
        if _shapes(parts[other]) != shapes:
            raise ConfigError(f"{first!r} and {other!r} cannot be merged: they stand at other sites, or in other sizes")


def _shapes(parts: _Parts) -> dict[tuple[str, str], torch.Size]:
    return {(key, n): t.shape for key, module in parts.named().items() for n, t in module.state_dict().items()}


@torch.no_grad()
def _fill(module: nn.Module, sources: Sequence[tuple[nn.Module, float]], where: str) -> None:
    """Write the weighted sum of the sources' tensors into a module of the same make; added up in float64.

    Numbers that count (a batch norm's batches) stay those of the module.
    """
    states = [({**dict(m.named_parameters()), **dict(m.named_buffers())}, factor) for m, factor in sources]
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        tensor.grad = None
        if not tensor.is_floating_point():
            continue
        if len(states) == 1 and states[0][1] == 1.0:
            tensor.copy_(states[0][0][name])
            continue
        terms = [state[name].to(tensor.device, torch.float64) * factor for state, factor in states if factor]
        tensor.copy_(torch.stack(terms).sum(0) if terms else torch.zeros_like(tensor))
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise ConfigError(
                f"{where}: the weighted sum of the variances of its batch norms is below zero; give weights that are "
                "positive and add up to 1"
            )


def _all_alike(
    members: Mapping[str, Mapping[str, nn.Module]], start: Mapping[str, nn.Module] | None
) -> dict[tuple[str, str], Alike]:
    return {(a, b): _alike(members[a], members[b], start) for a, b in itertools.combinations(members, 2)}


@torch.no_grad()
def _alike(
    one: Mapping[str, nn.Module], other: Mapping[str, nn.Module], start: Mapping[str, nn.Module] | None
) -> Alike:
    dot, squares, others, equal, counted = 0.0, 0.0, 0.0, 0, 0
    for key, module in one.items():
        for name, weight in module.named_parameters():
            x, y = (_less(t, start, key, name) for t in (weight, other[key].get_parameter(name)))
            dot, squares, others = dot + float(x @ y), squares + float(x @ x), others + float(y @ y)
            there = (x != 0) & (y != 0)
            equal, counted = equal + int(((x > 0) == (y > 0))[there].sum()), counted + int(there.sum())
    length = math.sqrt(squares * others)
    return Alike(dot / length if length else math.nan, equal / counted if counted else math.nan)


def _less(weight: Tensor, start: Mapping[str, nn.Module] | None, key: str, name: str) -> Tensor:
    flat = weight.detach().double().flatten().cpu()
    return flat if start is None else flat - start[key].get_parameter(name).detach().double().flatten().cpu()
