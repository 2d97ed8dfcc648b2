"""Methods by name: one that is registered here is listed, loaded from files, and tested."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from graftwork.errors import ConfigError
from graftwork.methods.layers.contract import AdapterConfig
from graftwork.named_configs import NamedConfigs
from graftwork.options import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_METHODS: NamedConfigs[AdapterConfig] = NamedConfigs("method", "method", "method name")

register = _METHODS.register
register_unlisted = _METHODS.register_unlisted
methods = _METHODS.all


def config_from_dict(data: Mapping[str, Any]) -> AdapterConfig:
    """Return a configuration from JSON values, the inverse of its ``to_dict``.

    ``"bottleneck"`` without the option ``skip`` is `graftwork.methods.skip_bottleneck.SkipBottleneck`.

    Args:
        data: The method's name under ``"method"``, and its options; those left out have their defaults.

    Raises:
        ConfigError: If the method or an option is unknown, or a value is refused.

    Example:
        >>> gw.config_from_dict({"method": "pfeiffer", "reduction_factor": 8}).reduction_factor
        8
    """
    # A file has every option; in a recipe or a command line the name alone means the preset.
    if isinstance(data, Mapping) and data.get("method") == "bottleneck" and "skip" not in data:
        data = {**data, "method": "skip_bottleneck"}
    return _METHODS.from_dict(data)


def config_from_text(text: str) -> AdapterConfig:
    """Return a configuration from a method's name, with options in brackets where they differ from its defaults.

    Args:
        text: Such as ``"pfeiffer"`` or ``"pfeiffer[reduction_factor=8, activation='gelu']"``; values are written as in TOML.

    Raises:
        ConfigError: If the text is not of this form, or the method or an option is not known.

    Example:
        >>> config_from_text("pfeiffer[reduction_factor=8]").reduction_factor
        8
    """
    name, bracket, inside = text.strip().partition("[")
    try:
        if bracket and not inside.endswith("]"):
            raise ValueError("the closing ] is missing")
        options = tomllib.loads(f"options = {{{inside[:-1]}}}")["options"]
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{text!r:.200}: write options as in 'pfeiffer[reduction_factor=8, reads=\"output\"]' ({error})"
        ) from error
    if name not in methods():
        raise ConfigError(f"no method is called {name!r}; {nearest(name, methods())}")
    return config_from_dict({**options, "method": name})
