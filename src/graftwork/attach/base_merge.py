"""LoRAs in the base's own weights, and out again with the same bits.

    W ← W + Σ_n w_n (α_n / r_n) B_n A_n

While they are there the base is another one, so nothing is saved or loaded, and what was merged cannot be active as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from graftwork.attach.collapsing import constant_weights, products_of
from graftwork.attach.state import InBase, ModelState
from graftwork.compose import Composition, names_in
from graftwork.errors import AttachError, ConfigError
from graftwork.methods import LoRA
from graftwork.sites import Site, is_conv1d
from graftwork.weights.holder import base_modules
from graftwork.weights.samples import has_values
from graftwork.weights.sharded import refuse_shards


class Change(NamedTuple):
    """What a composition adds to one weight of the base.

    Attributes:
        path: The path of the weight's module.
        weight: The weight ``(out, in)``, or ``(in, out)``.
        delta: What is added to it, in float64, of the weight's shape.
    """

    path: str
    weight: Tensor
    delta: Tensor

    def merged(self) -> Tensor:
        """The sum, rounded once, in the weight's dtype and on its device."""
        return (self.weight.double() + self.delta.to(self.weight.device)).to(self.weight.dtype)


@torch.no_grad()
def changes_of(state: ModelState, composition: Composition) -> list[Change]:
    """What a composition of LoRAs with constant weights adds to the weights of the base; nothing is changed.

    Raises:
        ConfigError: If one of them is no LoRA.
        CompositionError: If a weight depends on the input or the row.
        AttachError: If a weight of the base is quantised, offloaded or tied.
    """
    refuse_shards(state.model, "merge_into_base")
    weights = constant_weights(composition)
    for name in weights:
        state.require_adapter(name)
        if not isinstance(state.config(name), LoRA):
            raise ConfigError(
                f"merge_into_base: {name!r} is a {state.adapter_config(state.owner_of(name)).display_name} adapter, with a "
                "non-linearity, or norms, that no weight of the base can hold; only LoRAs go into it"
            )
    places = state.sites.places
    owners: dict[int, set[str]] = {}
    for path, module in base_modules(state.model):
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(path)
    changes = []
    for place, one in products_of(state, weights).items():
        weight, transposed = _weight_of(state.model, places[place], owners)
        delta = one.up @ one.down
        changes.append(Change(places[place].output.module, weight, delta.t() if transposed else delta))
    return changes


@torch.no_grad()
def merge_into_base(state: ModelState, composition: Composition) -> InBase:
    """Add a composition to the weights of the base; see `graftwork.attach.combining.Combining.merge_into_base`."""
    if state.in_base is not None:
        raise AttachError(f"{state.in_base.composition!r} is merged into the base already; call unmerge() first")
    changes = changes_of(state, composition)
    originals = {change.path: change.weight.detach().cpu().clone() for change in changes}
    for change in changes:
        change.weight.copy_(change.merged())
    return InBase(composition, originals)


@torch.no_grad()
def unmerge(state: ModelState) -> None:
    """Put back what `merge_into_base` wrote over."""
    if state.in_base is not None:
        refuse_shards(state.model, "unmerge")
        for path, original in state.in_base.originals.items():
            weight: Tensor = state.model.get_submodule(path).weight  # type: ignore[assignment]
            weight.copy_(original)


def refuse_twice(state: ModelState, composition: Composition) -> None:
    """Refuse to compute what is in the base already.

    Raises:
        AttachError: Naming it.
    """
    if state.in_base is not None:
        twice = set(names_in(composition)) & set(names_in(state.in_base.composition))
        if twice:
            raise AttachError(
                f"{sorted(twice)[0]!r} is merged into the base and would be added twice; call unmerge() first"
            )


def _weight_of(model: nn.Module, site: Site, owners: Mapping[int, Collection[str]]) -> tuple[Tensor, bool]:
    """The weight of a projection, and whether it is ``(in, out)``.

    Raises:
        AttachError: If it is quantised, elsewhere, or the weight of another module too.
    """
    path = site.output.module
    weight = getattr(model.get_submodule(path), "weight", None)
    shape = (site.width, site.input_width)
    if not isinstance(weight, Tensor) or not has_values(weight) or tuple(weight.shape) not in (shape, shape[::-1]):
        kind = type(model.get_submodule(path)).__name__
        raise AttachError(
            f"merge_into_base: the weight of {path!r} (a {kind}) is no plain tensor of floats that is here (quantised, offloaded, "
            "wrapped by peft, or on the meta device); merge into the plain model"
        )
    if len(owners.get(id(weight), ())) > 1:
        raise AttachError(
            f"merge_into_base: {sorted(owners[id(weight)])} have one weight in common; leave {path!r} out"
        )
    return weight, is_conv1d(model.get_submodule(path))
