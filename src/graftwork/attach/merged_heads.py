"""The head of a merged adapter: a copy of one, or the weighted sum of all if they have the same labels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from graftwork.attach.named_heads import OwnHead, head_copy
from graftwork.attach.state import ModelState
from graftwork.errors import ConfigError
from graftwork.weights.names import unknown


def merged_head(
    state: ModelState, factors: Mapping[str, float], head_from: str | None
) -> tuple[OwnHead | None, tuple[str, ...]]:
    """The head of a merged adapter, and the names that it was made of: ``head_from`` alone if given, else all.

    ``factors`` are the weights of the adapters, the common start included.
    """
    if head_from is not None:
        if state.labels(head_from) is None:
            raise unknown(head_from, state.head_labels, "head")
        return head_copy(state, head_from), (head_from,)
    used = {name: factor for name, factor in factors.items() if factor}
    having = [name for name in used if state.labels(name) is not None]
    if not having:
        return None, ()
    way_out = f"choose one head: head_from={having[0]!r}"
    if len(having) < len(used):
        without = next(name for name in used if name not in having)
        raise ConfigError(f"{having[0]!r} has a head and {without!r} has none; {way_out}")
    total = math.fsum(used.values())
    if abs(total - 1.0) > 1e-6:
        raise ConfigError(
            f"the weights add up to {total:g}, and heads can only be averaged; {way_out}, or give start= an adapter that "
            "they all started as"
        )
    for other in having[1:]:
        _refuse_unlike(state, having[0], other, way_out)
    made = head_copy(state, having[0])
    assert made is not None
    heads = {name: state.head_of(name) for name in having}
    with torch.no_grad():
        for path, module in made.modules.items():
            for name, p in module.named_parameters():
                terms = [heads[owner][path].get_parameter(name).double() * used[owner] for owner in having]
                p.copy_(torch.stack(terms).sum(0))
                p.grad = None
    return made, tuple(having)


def _refuse_unlike(state: ModelState, one: str, other: str, way_out: str) -> None:
    names, others = state.head_labels[one].names, state.head_labels[other].names
    if names != others:
        raise ConfigError(
            f"the heads of {one!r} and {other!r} predict other labels, {list(names)} and {list(others)}; {way_out}"
        )
    unlike = state.head_config(one) != state.head_config(other)
    if unlike or _shapes(state.head_of(one)) != _shapes(state.head_of(other)):
        raise ConfigError(f"the heads of {one!r} and {other!r} are not of one kind and size; {way_out}")


def _shapes(head: Mapping[str, nn.Module]) -> dict[tuple[str, str], torch.Size]:
    return {(path, name): p.shape for path, module in head.items() for name, p in module.named_parameters()}
