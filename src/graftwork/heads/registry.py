"""Heads by kind: registering one here is all it takes to be saved with an adapter and made again from its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from graftwork.errors import ConfigError
from graftwork.heads.contract import HeadConfig

_HEADS: dict[str, type[HeadConfig]] = {}
C = TypeVar("C", bound=type[HeadConfig])


def register(config: C) -> C:
    """Class decorator: make a head known under its ``kind``."""
    if not config.kind or config.kind in _HEADS:
        raise ConfigError(f"{config.__name__}: head kind {config.kind!r} is empty or taken")
    _HEADS[config.kind] = config
    return config


def heads() -> dict[str, type[HeadConfig]]:
    """Every registered head: kind to configuration class."""
    return dict(_HEADS)


def head_from_dict(data: Mapping[str, Any]) -> HeadConfig:
    """A configuration from JSON values, the inverse of `HeadConfig.to_dict`.

    Raises:
        ConfigError: If the kind or an option is unknown, or a value is refused.
    """
    kind = data.get("head") if isinstance(data, Mapping) else data
    if not isinstance(kind, str) or kind not in _HEADS:
        raise ConfigError(f"head {kind!r} is not known; it is one of {', '.join(_HEADS)}")
    cls: Any = _HEADS[kind]
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "head"}
    return cls(**options)  # type: ignore[no-any-return]
