"""A new adapter whose weights are a weighted sum of those of others.

    θ = Σ_n w_n θ_n + (1 − Σ_n w_n) θ_0

With weights that add up to one this is an average (AdapterSoup, Chronopoulou et al. 2023, arXiv:2302.07027) without θ_0.
Otherwise it is task arithmetic (Ilharco et al. 2022, arXiv:2212.04089), θ_0 + Σ w_n (θ_n − θ_0), where θ_0 is the adapter that
is named as the common start. If none is named it is zero, and for norms of the adapter's own the base's norm.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from graftwork.attach import building
from graftwork.attach.collapsing import Product, cut_to_rank, filled, lora_for, products_of
from graftwork.attach.members import Exported
from graftwork.attach.merge_rules import K, combined, require_rule
from graftwork.attach.merged_heads import merged_head
from graftwork.attach.named_heads import head_copy
from graftwork.attach.norms import norms_at
from graftwork.attach.state import ModelState
from graftwork.errors import ConfigError
from graftwork.methods import AdapterConfig, AdapterModule, LoRA, NormModule
from graftwork.options import is_number
from graftwork.sites import Site
from graftwork.weights.names import check_new


class Alike(NamedTuple):
    """How similar the weights of two adapters are, or their differences from the common start if one is named.

    Attributes:
        cosine: The cosine of all weights as one vector, from −1 to 1.
        signs: The share of weights with equal signs, among those that are not zero in either.
    """

    cosine: float
    signs: float


@dataclasses.dataclass(frozen=True)
class Merged:
    """What `merge` made, printable.

    The weights do not show whether the adapters had the same start, but `alike` tells: adapters from one start stay close in
    most weights; adapters from different starts are orthogonal, and their mean is as near to zero as to any of them.

    Attributes:
        name: The new adapter.
        weights: The weight of each adapter that was merged.
        start: The adapter that was named as their common start.
        head: The adapters that its head was made of.
        alike: How similar each two of the adapters are.

    Example:
        >>> merged = adapters.merge("mean", {"a": 0.7, "b": 0.3})
        >>> print(merged)  # doctest: +ELLIPSIS
        mean = 0.7 · a + 0.3 · b
        head: a and b
        a, b: cosine ..., equal signs ...%
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


class Rule(NamedTuple):
    """How differences are made one, see `graftwork.attach.merge_rules`."""

    name: str
    density: float
    rank: int | None
    seed: int


class _Parts(NamedTuple):
    """The modules of one adapter by site, which refer to what they share, and the norms it owns."""

    modules: dict[int, AdapterModule]
    norms: dict[int, nn.Module]

    def named(self) -> dict[str, nn.Module]:
        """All modules with weights, by their name in messages."""
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
    rule: Rule,
) -> tuple[Exported, Merged]:
    """The new adapter, not added yet, and what was merged; see `graftwork.attach.combining.Combining.merge`."""
    require_rule(rule.name, rule.density)
    weights = _weights(of)
    if rule.name == "ties" and not isinstance(of, Mapping):
        weights = dict.fromkeys(weights, 1.0)  # a mean already
    check_new(name, state, "an adapter")
    factors, rest = dict(weights), _rest(weights)
    if start is not None:
        factors[start] = factors.get(start, 0.0) + rest
    configs = {}
    for source in factors:
        if state.owner_of(source) != source:
            raise ConfigError(
                f"merge: {source!r} is made of the weights of {state.owner_of(source)!r}; materialize({source!r}, …) it first, "
                "and merge the result"
            )
        configs[source] = state.adapter_config(source)
        if source in state.peft_adapters:
            raise ConfigError(
                f"merge({name!r}): {source!r} is computed by peft, whose factors have no sum of their own; use peft's "
                "add_weighted_adapter, or activate the adapters in a Stack"
            )
    parts = {n: _Parts(state.adapter_modules(n), norms_at(state.model, state.sites, n)) for n in factors}
    if rule.name != "sum" and all(isinstance(config, LoRA) for config in configs.values()):
        return _merge_loras(state, name, weights, start, head_from, rule)
    if rule.rank is not None:
        raise ConfigError(f"merge({name!r}): rank is {rule.rank!r}; only LoRAs merged by TIES or DARE get one")
    _refuse_unlike(configs, parts)
    head, heads = merged_head(state, factors, head_from)
    first = next(iter(parts))
    made = copy.deepcopy(parts[first])  # in one call, so that the copies refer to one copy of what they share
    for module in made.modules.values():
        module.set_trainable(False)
    named = {source: parts[source].named() for source in factors}
    terms = [(named[source], factor) for source, factor in factors.items()]
    if start is None and rest:
        if any(isinstance(norm, NormModule) for norm in made.norms.values()):
            raise ConfigError(
                f"merge({name!r}): the weights add up to {1 - rest:g}, and norms that a method makes have no start in the base; "
                "give weights that add up to 1, or name the common start with start="
            )
        terms.append(({f"norm {n}": state.model.get_submodule(state.sites.norms[n]) for n in made.norms}, rest))
    for key, part in made.named().items():
        _fill(part, [(term[key], factor) for term, factor in terms if key in term], f"merge({name!r}): {key}")
    if rule.name != "sum":
        _fill_by_rule(
            made.named(),
            [named[source] for source in weights],
            list(weights.values()),
            None if start is None else named[start],
            rule,
        )
    origin = None if start is None else named[start]
    alike = {(a, b): _alike(named[a], named[b], origin) for a, b in itertools.combinations(weights, 2)}
    adapter = Exported(configs[first], made.modules, made.norms, head)
    return adapter, Merged(name, weights, start, heads, alike)


@torch.no_grad()
def _fill_by_rule(
    made: Mapping[str, nn.Module],
    sources: Sequence[Mapping[str, nn.Module]],
    weights: Sequence[float],
    start: Mapping[str, nn.Module] | None,
    rule: Rule,
) -> None:
    """Write what a rule makes of the sources' differences from the start into the parameters of modules like them."""

    def parameters(modules: Mapping[str, nn.Module]) -> dict[tuple[str, str], Tensor]:
        return {(key, n): p.detach().double() for key, module in modules.items() for n, p in module.named_parameters()}

    origin = None if start is None else parameters(start)
    vectors = [
        {key: tensor if origin is None else tensor - origin[key] for key, tensor in parameters(source).items()}
        for source in sources
    ]
    generator = torch.Generator().manual_seed(rule.seed)
    for (key, n), delta in combined(vectors, weights, rule.name, rule.density, generator).items():
        made[key].get_parameter(n).copy_(delta if origin is None else origin[key, n] + delta)


def _merge_loras(
    state: ModelState, name: str, weights: Mapping[str, float], start: str | None, head_from: str | None, rule: Rule
) -> tuple[Exported, Merged]:
    """LoRAs merged by what they add to the base's weights, cut to a rank."""
    if start is not None:
        raise ConfigError(f"merge({name!r}): start is {start!r}; what a LoRA adds to the base is a difference already")
    products = [products_of(state, {source: 1.0}) for source in weights]
    sites = {place: state.sites.places[place] for found in products for place in found}
    deltas = [
        {n: found[n].up @ found[n].down if n in found else _nothing(site) for n, site in sites.items()}
        for found in products
    ]
    generator = torch.Generator().manual_seed(rule.seed)
    merged = combined(deltas, list(weights.values()), rule.name, rule.density, generator)
    rank = rule.rank or max(len(one.down) for found in products for one in found.values())
    whole = {n: Product(torch.eye(delta.shape[1], dtype=delta.dtype), None, delta, None) for n, delta in merged.items()}
    cut, _ = cut_to_rank(whole, rank)
    config = lora_for(state, cut)
    pairs = itertools.combinations(zip(weights, deltas, strict=True), 2)
    alike = {(a, b): _alike_vectors(one.items(), other) for (a, one), (b, other) in pairs}
    head = None if head_from is None else head_copy(state, state.head_for(head_from))
    heads = () if head is None or head_from is None else (head_from,)
    return Exported(config, filled(state, config, cut), {}, head), Merged(name, weights, None, heads, alike)


def _nothing(site: Site) -> Tensor:
    return torch.zeros(site.width, site.input_width, dtype=torch.float64)


def _rest(weights: Mapping[str, float]) -> float:
    """The weight of the common start."""
    rest = 1.0 - math.fsum(weights.values())
    return rest if abs(rest) > 1e-9 else 0.0  # thirds do not add up to one exactly


def _weights(of: Mapping[str, float] | Sequence[str]) -> dict[str, float]:
    """A weight for each adapter, equal ones if only names are given."""
    if isinstance(of, str) or not isinstance(of, Iterable):
        raise ConfigError(f"merge takes the adapters' names, or their names with weights, not {of!r}")
    names = list(of)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"merge of {names}: give one adapter or more, each once")
    if not isinstance(of, Mapping):
        return dict.fromkeys(names, 1.0 / len(names))
    for name, weight in of.items():
        if not is_number(weight):
            raise ConfigError(f"merge: the weight of {name!r} is {weight!r}; give a finite number")
    return {name: float(weight) for name, weight in of.items()}


def _refuse_unlike(configs: Mapping[str, AdapterConfig], parts: Mapping[str, _Parts]) -> None:
    """Refuse adapters of different configurations, whose weights cannot be added up."""
    first, *others = parts
    for other in others:
        if configs[first] != configs[other]:
            one, two = configs[first].to_dict(), configs[other].to_dict()
            differ = sorted(k for k in {*one, *two} if one.get(k) != two.get(k))
            why = "; ".join(f"{k} is {one.get(k)!r} and {two.get(k)!r}" for k in differ)
            raise ConfigError(
                f"{first!r} and {other!r} cannot be merged: {why}. Merge adapters of one configuration, or use "
                f"Average({first!r}, {other!r}), which adds up their outputs"
            )
        if _shapes(parts[first]) != _shapes(parts[other]):
            raise ConfigError(f"{first!r} and {other!r} cannot be merged: their sites or their sizes differ")


def _shapes(parts: _Parts) -> dict[tuple[str, str], torch.Size]:
    return {(key, n): t.shape for key, module in parts.named().items() for n, t in module.state_dict().items()}


@torch.no_grad()
def _fill(module: nn.Module, sources: Sequence[tuple[nn.Module, float]], where: str) -> None:
    """Write the weighted sum of the sources' tensors, in float64, into a module like them; counters stay the module's own."""
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


@torch.no_grad()
def _alike(
    one: Mapping[str, nn.Module], other: Mapping[str, nn.Module], start: Mapping[str, nn.Module] | None
) -> Alike:
    """How similar two adapters are, or their differences from a start."""

    def weights(modules: Mapping[str, nn.Module]) -> Iterator[tuple[tuple[str, str], Tensor]]:
        for key, module in modules.items():
            for name, weight in module.named_parameters():
                origin = 0.0 if start is None else start[key].get_parameter(name).double()
                yield (key, name), weight.double() - origin

    return _alike_vectors(weights(one), dict(weights(other)))


def _alike_vectors(one: Iterable[tuple[K, Tensor]], other: Mapping[K, Tensor]) -> Alike:
    dot, squares, others, equal, counted = 0.0, 0.0, 0.0, 0, 0
    for key, tensor in one:
        x, y = tensor.flatten().cpu(), other[key].flatten().cpu()
        dot, squares, others = dot + float(x @ y), squares + float(x @ x), others + float(y @ y)
        nonzero = (x != 0) & (y != 0)
        equal, counted = equal + int(((x > 0) == (y > 0))[nonzero].sum()), counted + int(nonzero.sum())
    length = math.sqrt(squares * others)
    return Alike(dot / length if length else math.nan, equal / counted if counted else math.nan)
