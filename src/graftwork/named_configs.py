"""Configurations by name: a registered one is listed, and can be made again from its JSON values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from graftwork.errors import ConfigError

T = TypeVar("T")
C = TypeVar("C", bound=type[Any])


class NamedConfigs(Generic[T]):
    """The registered configurations of one kind.

    Args:
        key: The key of the name in their JSON values, also used in messages.
        attribute: The class attribute with the name.
        title: What messages call the name where it is empty or taken.
    """

    def __init__(self, key: str, attribute: str, title: str) -> None:
        self._key, self._attribute, self._title = key, attribute, title
        self._known: dict[str, type[T]] = {}
        self._unlisted: set[str] = set()

    def register_unlisted(self, config: C) -> C:
        """Class decorator: as `register`, for a configuration that `all` leaves out: its name alone does not make one."""
        self.register(config)
        self._unlisted.add(getattr(config, self._attribute))
        return config

    def register(self, config: C) -> C:
        """Class decorator: register a configuration under its name.

        Raises:
            ConfigError: If the name is empty or taken.
        """
        name = getattr(config, self._attribute)
        if not name or name in self._known:
            raise ConfigError(f"{config.__name__}: {self._title} {name!r} is empty or taken")
        self._known[name] = config
        return config

    def all(self) -> dict[str, type[T]]:
        """Every listed configuration: name to class."""
        return {name: config for name, config in self._known.items() if name not in self._unlisted}

    def from_dict(self, data: Mapping[str, Any]) -> T:
        """Return a configuration from JSON values, the inverse of its ``to_dict``.

        Raises:
            ConfigError: If the name or an option is unknown, or a value is refused.
        """
        name = data.get(self._key) if isinstance(data, Mapping) else data
        if not isinstance(name, str) or name not in self._known:
            raise ConfigError(f"{self._key} {name!r} is not known; it is one of {', '.join(self._known)}")
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != self._key}
        config: Any = self._known[name]
        for field in dataclasses.fields(config):
            has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            if field.init and not has_default and field.name not in options:
                raise ConfigError(f"{self._key} {name!r} needs the option {field.name!r}")
        return self._known[name](**options)
