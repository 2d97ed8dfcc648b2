"""Methods by name: registering one here is all it takes to be listed, loaded from files, and tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from graftwork.errors import ConfigError
from graftwork.methods.contract import AdapterConfig

_METHODS: dict[str, type[AdapterConfig]] = {}
C = TypeVar("C", bound=type[AdapterConfig])


def register(config: C) -> C:
    """Class decorator: make a configuration known under its ``method`` name."""
    if not config.method or config.method in _METHODS:
        raise ConfigError(f"{config.__name__}: method name {config.method!r} is empty or taken")
    _METHODS[config.method] = config
    return config


def methods() -> dict[str, type[AdapterConfig]]:
    """Every registered method: name to configuration class."""
    return dict(_METHODS)


def config_from_dict(data: Mapping[str, Any]) -> AdapterConfig:
    """A configuration from JSON values, the inverse of `AdapterConfig.to_dict`.

    Raises:
        ConfigError: If the method or an option is unknown, or a value is refused.
    """
    name = data.get("method") if isinstance(data, Mapping) else data
    if not isinstance(name, str) or name not in _METHODS:
        raise ConfigError(f"method {name!r} is not known; it is one of {', '.join(_METHODS)}")
    cls: Any = _METHODS[name]
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "method"}
    return cls(**options)  # type: ignore[no-any-return]
