"""The head of a merged adapter: one by name, or the weighted sum of all where they mean the same."""

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
    """The head, and the names that it was made of.

    Args:
        state: Of the model.
        factors: Each adapter's share, that of the common start included.
        head_from: The adapter whose head is copied, ``None`` to add up those of all.

    Raises:
        ConfigError: If the heads cannot be added up.
        UnknownNameError: If ``head_from`` has no head.
    """
    if head_from is not None:
        if state.labels(head_from) is None:
            raise unknown(head_from, state.head_labels, "head")
        return head_copy(state, head_from), (head_from,)
    used = {name: factor for name, factor in factors.items() if factor}
    having = [name for name in used if state.labels(name) is not None]
    if not having:
        return None, ()
    way_out = f"say whose head it gets: head_from={having[0]!r}"
    if len(having) < len(used):
        without = next(name for name in used if name not in having)
        raise ConfigError(f"{having[0]!r} has a head and {without!r} has none; {way_out}")
    total = math.fsum(used.values())
    if abs(total - 1.0) > 1e-6:
        raise ConfigError(
            f"the weights add up to {total:g}, and a head has no meaning but as a whole; {way_out}, or give start= an "
            "adapter that they all began as"
        )
    for other in having[1:]:
        _refuse_unlike(state, having[0], other, way_out)
    made = head_copy(state, having[0])
    assert made is not None
    with torch.no_grad():
        for path, module in made.modules.items():
            _fill(module, [(state.head_of(name)[path], used[name]) for name in having])
    return made, tuple(having)


def _refuse_unlike(state: ModelState, one: str, other: str, way_out: str) -> None:
    mine, theirs = state.labels(one), state.labels(other)
    assert mine is not None and theirs is not None
    if mine.names != theirs.names:
        raise ConfigError(
            f"the heads of {one!r} and {other!r} predict other labels, {list(mine.names)} and {list(theirs.names)}; {way_out}"
        )
    unlike = state.head_config(one) != state.head_config(other)
    if unlike or _shapes(state.head_of(one)) != _shapes(state.head_of(other)):
        raise ConfigError(f"the heads of {one!r} and {other!r} are not of one kind and size; {way_out}")


def _shapes(head: Mapping[str, nn.Module]) -> dict[tuple[str, str], torch.Size]:
    return {(path, name): p.shape for path, module in head.items() for name, p in module.named_parameters()}


def _fill(module: nn.Module, sources: list[tuple[nn.Module, float]]) -> None:
    for name, p in module.named_parameters():
        total = torch.stack([m.get_parameter(name).double() * factor for m, factor in sources]).sum(0)
        p.copy_(total)
        p.grad = None
