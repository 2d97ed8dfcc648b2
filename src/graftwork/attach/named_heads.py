"""Heads by name on a `ModelWithHeads` model: made from a configuration, copied, chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from graftwork.attach import building
from graftwork.attach.state import ModelState
from graftwork.errors import ConfigError
from graftwork.forward.causality import causal_at
from graftwork.forward.heads_in_use import Labels
from graftwork.forward.model_with_heads import HEAD_PATH, ModelWithHeads
from graftwork.heads import HeadConfig
from graftwork.weights.holder import device_of
from graftwork.weights.names import unknown


class OwnHead(NamedTuple):
    """The head of an adapter or a fusion, or one by itself.

    Attributes:
        modules: By their path in the model.
        labels: What its outputs stand for.
        config: What it was made by, ``None`` for one of an AutoModelForX.
    """

    modules: Mapping[str, nn.Module]
    labels: Labels
    config: HeadConfig | None = None


def make_named_head(state: ModelState, head: Any) -> OwnHead:
    """A new head for a headless base.

    Raises:
        ConfigError: If the model takes none, or the head does not fit it.
    """
    model = state.model
    if not isinstance(model, ModelWithHeads):
        raise ConfigError(
            f"a head of a kind needs a base without one: attach to gw.ModelWithHeads(base); this {type(model).__name__} takes "
            "a number of labels, their names, or a module"
        )
    if not isinstance(head, HeadConfig):
        raise ConfigError(
            f"add_head(…, {head!r}): give one of graftwork.heads, such as gw.heads.Classification(labels=2)"
        )
    sites = list(state.sites)
    last = ([site for site in sites if site.kind not in ("embedding", "output_projection")] or sites)[-1]
    device = device_of(model.base)
    with torch.device("meta" if device.type == "meta" else "cpu"):
        module = head.build(model.backbone(causal_at(model, last), last.width))
    return OwnHead({HEAD_PATH: module.to(device).train(model.training)}, Labels(head.names), head)


def head_copy(state: ModelState, source: str | None) -> OwnHead | None:
    """A copy of the head that a name has; ``None`` where no name is given."""
    if source is None:
        return None
    labels = state.labels(source)
    assert labels is not None
    return OwnHead(building.copy_head(state.model, state.head_of(source)), labels, state.head_config(source))


def made_head(state: ModelState, head: OwnHead | None, like: str | None) -> OwnHead | None:
    """The head that is given, else a copy of that of a name, else of the model's own where it has one.

    Raises:
        UnknownNameError: If the name has no head.
    """
    source = None if like is None else state.head_for(like)
    if head is None and like is not None and source is None:
        raise unknown(like, state.head_labels, "head")
    if head is not None:
        return head
    if source is not None:
        return head_copy(state, source)
    if not state.head_paths:
        return None
    own = {p: state.model.get_submodule(p) for p in state.head_paths}
    return OwnHead(building.copy_head(state.model, own), state.own_labels)
