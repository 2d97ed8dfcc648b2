"""Heads by kind: registering one here is all it takes to be saved with an adapter and made again from its file."""

from __future__ import annotations

from graftwork.catalogue import Catalogue
from graftwork.heads.contract import HeadConfig

_HEADS: Catalogue[HeadConfig] = Catalogue("head", "kind", "head kind")

register = _HEADS.register
heads = _HEADS.all
head_from_dict = _HEADS.from_dict
