"""Configurations by name: registering one is all it takes to be listed, and made again from what a file says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from graftwork.errors import ConfigError

T = TypeVar("T")
C = TypeVar("C", bound=type[Any])


class Catalogue(Generic[T]):
    """The registered configurations of one sort.

    Args:
        key: The key of their JSON form that has the name, and what messages call it.
        attribute: The class attribute that has the name.
        said: How the name is called where it is empty or taken.
    """

    def __init__(self, key: str, attribute: str, said: str) -> None:
        self._key, self._attribute, self._said = key, attribute, said
        self._known: dict[str, type[T]] = {}
        self._unlisted: set[str] = set()

    def register_unlisted(self, config: C) -> C:
        """Class decorator: as `register`, for one that `all` does not list: it cannot be made by its name alone."""
        self.register(config)
        self._unlisted.add(getattr(config, self._attribute))
        return config

    def register(self, config: C) -> C:
        """Class decorator: make a configuration known under its name.

        Raises:
            ConfigError: If the name is empty or taken.
        """
        name = getattr(config, self._attribute)
        if not name or name in self._known:
            raise ConfigError(f"{config.__name__}: {self._said} {name!r} is empty or taken")
        self._known[name] = config
        return config

    def all(self) -> dict[str, type[T]]:
        """Every listed one: name to configuration class."""
        return {name: config for name, config in self._known.items() if name not in self._unlisted}

    def from_dict(self, data: Mapping[str, Any]) -> T:
        """A configuration from JSON values, the inverse of its ``to_dict``.

        Raises:
            ConfigError: If the name or an option is unknown, or a value is refused.
        """
        name = data.get(self._key) if isinstance(data, Mapping) else data
        if not isinstance(name, str) or name not in self._known:
            raise ConfigError(f"{self._key} {name!r} is not known; it is one of {', '.join(self._known)}")
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != self._key}
        return self._known[name](**options)
