"""Methods by name: registering one here is all it takes to be listed, loaded from files, and tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.catalogue import Catalogue
from graftwork.methods.contract import AdapterConfig

_METHODS: Catalogue[AdapterConfig] = Catalogue("method", "method", "method name")

register = _METHODS.register
register_unlisted = _METHODS.register_unlisted
methods = _METHODS.all
# A name that means a preset where an option is not said: a file says every option, a recipe or a command line few.
_MEANT = {"bottleneck": ("skip", "skip_bottleneck")}


def config_from_dict(data: Mapping[str, Any]) -> AdapterConfig:
    """A configuration from JSON values, the inverse of its ``to_dict``.

    ``"bottleneck"`` without a word about its ``skip`` is `graftwork.methods.skip_bottleneck.SkipBottleneck`.

    Raises:
        ConfigError: If the method or an option is unknown, or a value is refused.
    """
    if isinstance(data, Mapping) and data.get("method") in _MEANT:
        option, preset = _MEANT[data["method"]]
        if option not in data:
            data = {**data, "method": preset}
    return _METHODS.from_dict(data)
