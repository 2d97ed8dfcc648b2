"""What the methods at projections have in common: at which linear modules they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from graftwork.errors import ConfigError
from graftwork.methods.layers.contract import AdapterConfig, Place
from graftwork.methods.layers.layerwise import check_layers, layers_left_out, leaves_out
from graftwork.options import is_number


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectionConfig(AdapterConfig):
    """Base of the configurations of adapters at projections, the linear modules inside the layers.

    Attributes:
        targets: Names of linear modules, such as ``("q_proj", "v_proj")``, each the end of a module's path, with ``*`` for any
            one part of it (``"layers.*.mlp.up_proj"``); ``"all"`` is every projection.
        exclude: Names of those that are left out.
        leave_out: Layers without the adapter.

    Raises:
        ConfigError: If a value is refused.
    """

    targets: tuple[str, ...] = ("all",)
    exclude: tuple[str, ...] = ()
    leave_out: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("targets", "exclude"):
            object.__setattr__(self, field, names_of_modules(self, field))
        if not self.targets:
            raise ConfigError(f"{type(self).__name__}: targets is empty; name linear modules, or give 'all'")
        object.__setattr__(self, "leave_out", layers_left_out(self))

    @property
    def at_projections(self) -> bool:
        return True

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        check_layers(type(self).__name__, "leave_out", self.leave_out, layers)

    def is_at(self, place: Place) -> bool:
        """Whether the method puts an adapter at a place."""
        if place.site.kind != "projection" or leaves_out(self, place):
            return False
        return self.selects(place.site.key)

    def selects(self, path: str) -> bool:
        """Whether a projection is among the targets, by its path inside the base model."""
        chosen = self.targets == ("all",) or ends_in_any(path, self.targets)
        return chosen and not ends_in_any(path, self.exclude)


def names_of_modules(config: object, field: str) -> tuple[str, ...]:
    """An option that names linear modules, one name or several.

    Raises:
        ConfigError: If it is none.
    """
    value = getattr(config, field)
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (tuple, list, set, frozenset)) or not all(isinstance(n, str) and n for n in names):
        raise ConfigError(
            f"{type(config).__name__}: {field} is {value!r}; give names of linear modules, such as ['q_proj', 'v_proj']"
        )
    return tuple(sorted(names) if isinstance(names, (set, frozenset)) else names)


def ends_in(path: str, name: str) -> bool:
    """Whether a dotted path is a name, or ends in it; ``*`` in the name is any one part of the path."""
    parts, wanted = path.split("."), name.split(".")
    return len(wanted) <= len(parts) and all(
        want in ("*", part) for want, part in zip(wanted, parts[-len(wanted) :], strict=True)
    )


def ends_in_any(path: str, names: Iterable[str]) -> bool:
    """Whether a dotted path ends in one of some names."""
    return any(ends_in(path, name) for name in names)


def for_path(numbers: Mapping[str, float], path: str, default: float) -> float:
    """The number of the first name that a path ends in, else the default."""
    return next((number for name, number in numbers.items() if ends_in(path, name)), default)


def by_name(config: object, field: str, low: float, *, whole: bool) -> dict[str, float]:
    """An option that maps names of modules to numbers, whole ones where that is said, of ``low`` or more.

    Raises:
        ConfigError: If it is none.
    """
    value, name = getattr(config, field), type(config).__name__
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key for key in value):
        raise ConfigError(
            f"{name}: {field} is {value!r}; give a mapping from names to numbers, such as {{'q_proj': 4}}"
        )
    for key, number in value.items():
        if not is_number(number) or number < low or (whole and number != int(number)):
            kind = "a whole number" if whole else "a number"
            raise ConfigError(f"{name}: {field} has {number!r} for {key!r}; give {kind} of {low} or more")
    return dict(value)
