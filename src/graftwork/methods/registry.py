"""Methods by name: registering one here is all it takes to be listed, loaded from files, and tested."""

from __future__ import annotations

from graftwork.catalogue import Catalogue
from graftwork.methods.contract import AdapterConfig

_METHODS: Catalogue[AdapterConfig] = Catalogue("method", "method", "method name")

register = _METHODS.register
register_unlisted = _METHODS.register_unlisted
methods = _METHODS.all
config_from_dict = _METHODS.from_dict
