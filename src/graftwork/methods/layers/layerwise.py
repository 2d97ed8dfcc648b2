"""Options that differ from layer to layer, and which sites a list of kinds selects.

A layer has the number of its sites (`Site.layer`), which is the model's own: in a stack of three whose first child has no
sites the layers are 1 and 2. Options that count layers (the first two) count those that have sites, whatever their numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from graftwork.errors import ConfigError
from graftwork.methods.layers.contract import Place
from graftwork.sites import KINDS, Site

_BRANCHES = ("attention", "cross_attention", "feed_forward", "mixer", "composite")


def selects(kinds: Collection[str], place: Place) -> bool:
    """Whether a method with an adapter at these kinds of sites has one at this place.

    A mixer counts as attention; in a block whose only branch is a mixer (a state space model) it counts as feed-forward
    too.
    """
    kind = place.site.kind
    if kind != "mixer" or "mixer" in kinds:
        return kind in kinds
    alone = {k for k in place.block_kinds if k in _BRANCHES} <= {"mixer"}
    return "attention" in kinds or (alone and "feed_forward" in kinds)


def settle_places(config: Any) -> None:
    """Check the options ``sites`` and ``leave_out`` of a configuration, and write both as tuples.

    Raises:
        ConfigError: If a kind is not known, or ``leave_out`` is no list of layers.
    """
    sites = (config.sites,) if isinstance(config.sites, str) else config.sites
    if not isinstance(sites, (tuple, list, set)) or not sites or not all(s in KINDS for s in sites):
        raise ConfigError(f"{type(config).__name__}: sites is {sites!r}; name one or more of {', '.join(KINDS)}")
    object.__setattr__(config, "sites", tuple(sites))
    object.__setattr__(config, "leave_out", layers_left_out(config))


def puts_adapter_at(config: Any, place: Place) -> bool:
    """Whether a configuration with the options ``sites`` and ``leave_out`` puts an adapter at a place."""
    return selects(config.sites, place) and not leaves_out(config, place)


def leaves_out(config: Any, place: Place) -> bool:
    """Whether the option ``leave_out`` of a configuration leaves a place out."""
    names = (str(place.site.layer), f"{place.site.stack}.{place.site.layer}")
    return any(str(layer) in names for layer in config.leave_out)


def for_layer(config: Any, field: str, site: Site) -> Any:
    """The option's value at one site: that of its full layer name, else of its number, else the default."""
    value = getattr(config, field)
    if not isinstance(value, Mapping):
        return value
    for key in (f"{site.stack}.{site.layer}", str(site.layer), "default"):
        if key in value:
            return value[key]
    raise ConfigError(
        f"{type(config).__name__}: {field} has no value for layer {site.layer} of {site.stack!r}; add it, or a 'default'"
    )


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
        ConfigError: If it is no list of layers.
    """
    left = config.leave_out
    if not isinstance(left, (tuple, list, set, range)) or any(type(x) not in (int, str) for x in left):
        raise ConfigError(f"{type(config).__name__}: leave_out is {left!r}; give a list of layers, such as [0, 1]")
    return tuple(left)
