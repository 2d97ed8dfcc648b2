"""Keys of sites (``encoder.layer.3.feed_forward``) in order, with labels as short as the model allows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from graftwork.sites.site import KINDS

_SHORT = {"attention": "attn", "cross_attention": "cross", "feed_forward": "ffn", "embedding": "emb"}
_KEY = re.compile(rf"(?:(?P<stack>.+)\.)?(?P<layer>\d+)\.(?P<kind>{'|'.join(KINDS)})(?:_(?P<number>\d+))?")


class _Parts(NamedTuple):
    key: str
    stack: str
    layer: int
    kind: str
    number: int


def in_order(keys: Iterable[str]) -> dict[str, str]:
    """Keys by stack and layer, each with its label: what is the same in all of them is left out.

    Stacks keep the order in which they come, which is that of the model: encoder before decoder. Keys of another form come
    last, as they are.
    """
    keys = list(keys)
    parsed = [parts for key in keys if (parts := _parse(key)) is not None]
    stacks = list(dict.fromkeys(parts.stack for parts in parsed))
    parsed.sort(key=lambda p: (stacks.index(p.stack), p.layer, KINDS.index(p.kind), p.number))
    short = _shortened(stacks)
    several = len({(parts.kind, parts.number) for parts in parsed}) > 1
    labels = {}
    for parts in parsed:
        kind = _SHORT.get(parts.kind, parts.kind) + (f" {parts.number + 1}" if parts.number else "")
        labels[parts.key] = " ".join(filter(None, [short[parts.stack], str(parts.layer), kind if several else ""]))
    return {**labels, **{key: key for key in keys if key not in labels}}


def _parse(key: str) -> _Parts | None:
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    return _Parts(key, found["stack"] or "", int(found["layer"]), found["kind"], int(found["number"] or 0))


def _shortened(stacks: list[str]) -> dict[str, str]:
    """What tells stacks apart: ``encoder.block`` and ``decoder.block`` are encoder and decoder; one alone needs no name."""
    if len(stacks) < 2:
        return dict.fromkeys(stacks, "")
    split = {stack: stack.split(".") for stack in stacks}
    if len({len(parts) for parts in split.values()}) > 1:
        return {stack: stack for stack in stacks}
    differing = [n for n, parts in enumerate(zip(*split.values(), strict=True)) if len(set(parts)) > 1]
    return {stack: ".".join(parts[n] for n in differing) for stack, parts in split.items()}
