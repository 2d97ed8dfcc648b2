"""One adapter that computes what a composition with constant weights does.

    Σ_n w_n (U_n φ(D_n h + b_n) + c_n)  =  [w_1 U_1 … w_N U_N] φ([D_1; …; D_N] h + [b_1; …; b_N]) + Σ_n w_n c_n

It is exact where all have one φ. LoRAs, whose φ is the identity, can be cut to a rank: the nearest matrix of that rank (SVD).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graftwork.attach import building
from graftwork.attach.members import Exported
from graftwork.attach.named_heads import head_copy
from graftwork.attach.state import ModelState
from graftwork.compose import Average, Block, Composition, Stack, names_in
from graftwork.errors import CompositionError, ConfigError
from graftwork.methods import AdapterConfig, AdapterModule, Bottleneck, LoRA
from graftwork.methods.layers.bottleneck import BottleneckBase
from graftwork.weights.names import check_new

_READS_WHAT_IS_ADDED = ("output", "stream", "normed")


class Product(NamedTuple):
    """``U φ(D h + b) + c`` in float64: D ``(r, in)``, b ``(r,)``, U ``(out, r)``, c ``(out,)``; b and c may be ``None``."""

    down: Tensor
    bias: Tensor | None
    up: Tensor
    constant: Tensor | None


@dataclasses.dataclass(frozen=True)
class Collapsed:
    """What `collapse` made, printable.

    Attributes:
        name: The new adapter.
        weights: The adapters that it was made of, with their weights.
        rank: Its width at each site, by key.
        error: What the cut to a rank left out: ‖ΔW − ΔW′‖ / ‖ΔW‖ over all sites; 0 where nothing was cut.
    """

    name: str
    weights: Mapping[str, float]
    rank: Mapping[str, int]
    error: float

    def __str__(self) -> str:
        parts = " + ".join(f"{weight:g} · {name}" for name, weight in self.weights.items())
        return f"{self.name} = {parts}; rank {max(self.rank.values())}; relative error of the cut {self.error:.3g}"


def constant_weights(composition: Composition) -> dict[str, float]:
    """The weight of each adapter of a composition.

    Raises:
        CompositionError: If a weight depends on the input, or on the row.
    """
    if composition is None:
        return {}
    if isinstance(composition, str):
        return {composition: 1.0}
    if not isinstance(composition, (Stack, Average)):
        raise CompositionError(
            f"{composition!r}: the weights of a {type(composition).__name__} are not the same for every input; only names, Stack "
            "and Average are one adapter"
        )
    shares = composition.weights if isinstance(composition, Average) else (1.0,) * len(composition.children)
    total: dict[str, float] = {}
    for child, share in zip(composition.children, shares, strict=True):
        for name, weight in constant_weights(child).items():
            total[name] = total.get(name, 0.0) + share * weight
    return total


def collapse(
    state: ModelState, composition: Composition, name: str, rank: int | None, head_from: str | None
) -> tuple[Exported, Collapsed]:
    """The new adapter, not added yet; see `graftwork.attach.combining.Combining.collapse`."""
    check_new(name, state, "an adapter")
    weights = constant_weights(composition)
    if not weights:
        raise CompositionError(f"collapse({composition!r}): there is no adapter in it")
    for one in weights:
        state.require_adapter(one)
    _refuse_one_after_another(state, composition)
    products = products_of(state, weights)
    configs = {one: state.config(one) for one in weights}
    error = 0.0
    config: AdapterConfig
    if all(isinstance(config, LoRA) for config in configs.values()):
        if rank is not None:
            products, error = cut_to_rank(products, rank)
        config = lora_for(state, products)
    elif rank is not None:
        raise ConfigError(
            f"collapse: rank is {rank!r}, and only LoRAs can be cut to a rank, which have no non-linearity inside"
        )
    else:
        config = _bottleneck(state, configs, products)
    modules = filled(state, config, products)
    owner = head_from or (next(iter(weights)) if len(weights) == 1 else None)
    head = None if owner is None else head_copy(state, state.head_for(owner))
    ranks = {state.sites.key_of(state.sites.places[place]): len(one.down) for place, one in products.items()}
    return Exported(config, modules, {}, head), Collapsed(name, weights, ranks, error)


def _refuse_one_after_another(state: ModelState, composition: Composition) -> None:
    """Refuse a Stack in which one reads what another has added: their sum is another function."""
    for block in composition.walk() if isinstance(composition, Block) else ():
        names = [set(names_in(child)) for child in block.children] if isinstance(block, Stack) else []
        for n, later in enumerate(names):
            before = {place for one in set().union(*names[:n]) for place in state.adapter_modules(one)}
            for one in later:
                for place, module in state.adapter_modules(one).items():
                    if place in before and module.reads in _READS_WHAT_IS_ADDED:
                        raise CompositionError(
                            f"{block!r}: at {state.sites.key_of(state.sites.places[place])} {one!r} reads what is added before "
                            "it, so that the two are no one adapter; use Average(..., normalize=False), which reads alike"
                        )


def products_of(state: ModelState, weights: Mapping[str, float]) -> dict[int, Product]:
    """The adapters side by side, at each place of the map."""
    found: dict[int, list[tuple[AdapterModule, float]]] = {}
    for one, weight in weights.items():
        for place, module in state.adapter_modules(one).items():
            key = state.sites.key_of(state.sites.places[place])
            if not module.foldable or len(module.segments()) != 1:
                raise ConfigError(
                    f"collapse: {one!r} is more than two products at {key} (a gate, a norm of its own, a skip, or another form), "
                    "and no one adapter computes the sum"
                )
            found.setdefault(place, []).append((module, weight))
    products = {}
    for place, modules in sorted(found.items()):
        kinds = {(m.reads, m.writes, m.segments()[0].activation) for m, _ in modules}
        if len(kinds) > 1:
            key = state.sites.key_of(state.sites.places[place])
            raise ConfigError(f"collapse: at {key} the adapters differ in what they read, where they write or in φ")
        products[place] = _side_by_side(modules)
    return products


@torch.no_grad()
def _side_by_side(modules: Sequence[tuple[AdapterModule, float]]) -> Product:
    segments = [module.segments()[0] for module, _ in modules]
    readouts = [
        (up.double() * weight, None if c is None else c.double() * weight)
        for (up, c), weight in ((module.readout(), weight) for module, weight in modules)
    ]
    constants = [c for _, c in readouts if c is not None]
    bias = None
    if any(s.bias is not None for s in segments):
        bias = torch.cat(
            [s.down.new_zeros(len(s.down)).double() if s.bias is None else s.bias.double() for s in segments]
        )
    constant = torch.stack(constants).sum(0) if constants else None
    return Product(
        torch.cat([s.down.double() for s in segments]), bias, torch.cat([up for up, _ in readouts], 1), constant
    )


def cut_to_rank(products: Mapping[int, Product], rank: int) -> tuple[dict[int, Product], float]:
    """The nearest of a rank, and the relative error over all; the singular values are shared by D and U."""
    if type(rank) is not int or rank < 1:
        raise ConfigError(f"collapse: rank is {rank!r}; give a whole number of 1 or more")
    cut, lost, all_of_it = {}, 0.0, 0.0
    for place, one in products.items():
        outer, upper = torch.linalg.qr(one.up)
        inner, lower = torch.linalg.qr(one.down.t())
        left, values, right = torch.linalg.svd(upper @ lower.t(), full_matrices=False)
        kept = min(rank, len(values))
        root = values[:kept].sqrt()
        cut[place] = Product((inner @ right[:kept].t() * root).t(), None, outer @ left[:, :kept] * root, None)
        lost, all_of_it = lost + float(values[kept:].square().sum()), all_of_it + float(values.square().sum())
    return cut, math.sqrt(lost / all_of_it) if all_of_it else 0.0


def filled(state: ModelState, config: AdapterConfig, products: Mapping[int, Product]) -> dict[int, AdapterModule]:
    """The modules of a configuration, with these products as their weights."""
    modules = building.build(state.model, state.sites, config).modules
    for place, module in modules.items():
        _fill(module, products[place])
    return modules


def lora_for(state: ModelState, products: Mapping[int, Product]) -> LoRA:
    """A LoRA with the factor 1 where these products are."""
    ranks = {state.sites.key_of(state.sites.places[place]): len(one.down) for place, one in products.items()}
    rank = max(ranks.values())
    fewer = {key: r for key, r in ranks.items() if r != rank}
    return LoRA(targets=tuple(ranks), rank=rank, alpha=rank, rank_pattern=fewer, alpha_pattern=dict(fewer))


def _bottleneck(state: ModelState, configs: Mapping[str, Any], products: Mapping[int, Product]) -> Bottleneck:
    """A plain bottleneck that is where they are.

    Raises:
        ConfigError: If there is none.
    """
    one, first = next(iter(configs.items()))
    for name, config in configs.items():
        if not isinstance(config, BottleneckBase) or config.norms != "base":
            raise ConfigError(
                f"collapse: {name!r} is {type(config).__name__}(norms={config.norms!r}); LoRAs collapse with LoRAs, "
                "and bottlenecks without norms of their own with such"
            )
        if (config.sites, config.leave_out) != (first.sites, first.leave_out):
            raise ConfigError(f"collapse: {one!r} and {name!r} are at other sites; no one configuration says both")
    sizes: dict[str, int] = {}
    for place, product in products.items():
        site = state.sites.places[place]
        layer = f"{site.stack.removeprefix(state.sites.prefix)}.{site.layer}"
        if sizes.setdefault(layer, len(product.down)) != len(product.down):
            raise ConfigError(f"collapse: in layer {layer} the widths would be {sizes[layer]} and {len(product.down)}")
    alike = len(set(sizes.values())) == 1
    return Bottleneck(
        sites=first.sites,
        reads=first.reads,
        writes=first.writes,
        activation=first.activation,
        bottleneck_size=next(iter(sizes.values())) if alike else sizes,
        up_bias=any(product.constant is not None for product in products.values()),
        leave_out=first.leave_out,
    )


@torch.no_grad()
def _fill(module: AdapterModule, product: Product) -> None:
    own = dict(module.named_parameters())
    values = {"down": product.down, "down_bias": product.bias, "up": product.up, "up_bias": product.constant}
    for name, parameter in own.items():
        value = values[name]
        parameter.zero_() if value is None else parameter.copy_(value)
