"""Options that differ from layer to layer, and which sites a list of kinds selects.

A layer goes by the number that its sites have (`Site.layer`), which is the model's own: a stack whose first child has no
sites begins at 1, and its layers are 1 and 2. Where options count layers (the first two), they count those that have
sites, whatever their numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from graftwork.errors import ConfigError
from graftwork.methods.layers.contract import Place
from graftwork.sites import KINDS, Site

_BRANCHES = ("attention", "cross_attention", "feed_forward", "mixer", "composite")


def selects(kinds: Collection[str], place: Place) -> bool:
    """Whether a method that stands at ``kinds`` stands at this place.

    A mixer is attention's counterpart; in a block whose only branch is a mixer (a state space model) it takes the
    feed-forward adapter too.
    """
    kind = place.site.kind
    if kind != "mixer" or "mixer" in kinds:
        return kind in kinds
    alone = {k for k in place.block_kinds if k in _BRANCHES} <= {"mixer"}
    return "attention" in kinds or (alone and "feed_forward" in kinds)


def settle_places(config: Any) -> None:
    """Check the options ``sites`` and ``leave_out`` of a configuration, and write both as tuples.

    Raises:
        ConfigError: If a kind is none, or what is left out are no layers.
    """
    sites = (config.sites,) if isinstance(config.sites, str) else config.sites
    if not isinstance(sites, (tuple, list, set)) or not sites or not all(s in KINDS for s in sites):
        raise ConfigError(f"{type(config).__name__}: sites is {sites!r}; name one or more of {', '.join(KINDS)}")
    object.__setattr__(config, "sites", tuple(sites))
    object.__setattr__(config, "leave_out", layers_left_out(config))


def stands_at(config: Any, place: Place) -> bool:
    """Whether a configuration with the options ``sites`` and ``leave_out`` puts an adapter at a place."""
    return selects(config.sites, place) and not is_left_out(place, config.leave_out)


def layer_keys(value: Any) -> Any:
    """A mapping from layers with its keys as JSON has them, strings; anything else unchanged."""
    return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else value


def for_layer(owner: str, field: str, value: Any, site: Site) -> Any:
    """The option's value at one site: of its full layer name, else of its number, else the default."""
    if not isinstance(value, Mapping):
        return value
    for key in (f"{site.stack}.{site.layer}", str(site.layer), "default"):
        if key in value:
            return value[key]
    raise ConfigError(f"{owner}: {field} has no value for layer {site.layer} of {site.stack!r}; add it, or a 'default'")


def check_layers(owner: str, field: str, value: Any, layers: Mapping[str, Sequence[int]]) -> None:
    """Refuse an option that names a layer which no stack has: ``layers`` maps each stack to the numbers of its layers."""
    named: Iterable[Any] = value if isinstance(value, (Mapping, tuple)) else ()
    known = {str(i) for numbers in layers.values() for i in numbers}
    known |= {f"{stack}.{i}" for stack, numbers in layers.items() for i in numbers} | {"default"}
    for layer in named:
        if str(layer) not in known:
            have = ", ".join(f"{stack} {_listed(numbers)}".strip() for stack, numbers in layers.items())
            raise ConfigError(f"{owner}: {field} names layer {layer!r}, which is not there; the layers are {have}")


def _listed(numbers: Sequence[int]) -> str:
    if len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return " and ".join(map(str, numbers))


def layers_left_out(config: Any) -> tuple[int | str, ...]:
    """The option ``leave_out`` as a tuple of layers, numbers or full names.

    Raises:
        ConfigError: If it is no list of these.
    """
    left = config.leave_out
    if not isinstance(left, (tuple, list, set, range)) or any(type(x) not in (int, str) for x in left):
        raise ConfigError(f"{type(config).__name__}: leave_out is {left!r}; give a list of layers, such as [0, 1]")
    return tuple(left)


def is_left_out(place: Place, left: Collection[int | str]) -> bool:
    """Whether a place is in one of the layers that are left out."""
    names = (str(place.site.layer), f"{place.site.stack}.{place.site.layer}")
    return any(str(x) in names for x in left)
