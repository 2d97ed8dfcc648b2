"""What the methods at projections have in common: at which linear modules they are."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from graftwork.errors import ConfigError
from graftwork.methods.layers.contract import AdapterConfig, Place
from graftwork.methods.layers.layerwise import check_layers, is_left_out, layers_left_out
from graftwork.options import is_number


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectionConfig(AdapterConfig):
    """Base of the configurations of adapters at projections, the linear modules inside the layers.

    Attributes:
        targets: ``"all"`` for every projection; names, such as ``("q_proj", "v_proj")``, each the end of a module's path; or a
            regular expression for the whole path inside the base model.
        exclude: Names of those that are left out, as in ``targets``.
        leave_out: Layers without the adapter.

    Raises:
        ConfigError: If a value is refused.
    """

    targets: str | tuple[str, ...] = "all"
    exclude: tuple[str, ...] = ()
    leave_out: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        for field in ("targets", "exclude"):
            value = getattr(self, field)
            if isinstance(value, str) and field == "targets":
                _require_pattern(name, field, value)
                continue
            value = (value,) if isinstance(value, str) else value
            if not isinstance(value, (tuple, list, set, frozenset)) or not all(isinstance(n, str) and n for n in value):
                raise ConfigError(
                    f"{name}: {field} is {value!r}; give names of linear modules, such as ['q_proj', 'v_proj']"
                )
            ordered = sorted(value) if isinstance(value, (set, frozenset)) else value
            object.__setattr__(self, field, tuple(ordered))
        if not self.targets:
            raise ConfigError(f"{name}: targets is empty; name linear modules, or give 'all'")
        object.__setattr__(self, "leave_out", layers_left_out(self))

    @property
    def at_projections(self) -> bool:
        return True

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        check_layers(type(self).__name__, "leave_out", self.leave_out, layers)

    def is_at(self, place: Place) -> bool:
        """Whether the method puts an adapter at a place."""
        if place.site.kind != "projection" or is_left_out(place, self.leave_out):
            return False
        path = place.site.key
        if any(_ends(path, name) for name in self.exclude):
            return False
        if isinstance(self.targets, str):
            return self.targets == "all" or re.fullmatch(self.targets, path) is not None
        return any(_ends(path, name) for name in self.targets)


def for_path(patterns: Mapping[str, float], path: str, default: float) -> float:
    """The value of the first pattern that the end of a path matches, as peft looks them up; else the default."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", path)), default)


def patterns_of(config: object, field: str, low: float, *, whole: bool) -> dict[str, float]:
    """An option that maps patterns to numbers, whole ones where that is said, of ``low`` or more.

    Raises:
        ConfigError: If it is none.
    """
    value, name = getattr(config, field), type(config).__name__
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{name}: {field} is {value!r}; give a mapping from names to numbers, such as {{'q_proj': 4}}"
        )
    for key, number in value.items():
        _require_pattern(name, field, key)
        if not is_number(number) or number < low or (whole and number != int(number)):
            kind = "a whole number" if whole else "a number"
            raise ConfigError(f"{name}: {field} has {number!r} for {key!r}; give {kind} of {low} or more")
    return dict(value)


def _require_pattern(owner: str, field: str, pattern: object) -> None:
    try:
        re.compile(str(pattern))
    except re.error as error:
        raise ConfigError(f"{owner}: {field} has {pattern!r}, which is no regular expression: {error}") from error


def _ends(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")
