"""The heads of adapters and fusions: new ones on a `ModelWithHeads` model, and copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from graftwork.attach import building
from graftwork.attach.state import ModelState
from graftwork.errors import ConfigError
from graftwork.forward.causality import causal_at
from graftwork.forward.heads_in_use import Labels
from graftwork.forward.model_with_heads import HEAD_PATH, ModelWithHeads
from graftwork.heads import HeadConfig
from graftwork.weights.holder import device_of, made_on
from graftwork.weights.names import unknown


class OwnHead(NamedTuple):
    """The head of an adapter or a fusion, or one by itself.

    Attributes:
        modules: Its modules, by the path in the model of what they replace.
        labels: The labels of its outputs.
        config: Its configuration, ``None`` for a copy of the head of an AutoModelForX.
    """

    modules: Mapping[str, nn.Module]
    labels: Labels
    config: HeadConfig | None = None


def make_named_head(state: ModelState, head: Any) -> OwnHead:
    """A new head for a base without one."""
    model = state.model
    if not isinstance(model, ModelWithHeads):
        raise ConfigError(
            "a head's configuration needs a base without a head: attach to gw.ModelWithHeads(base); this "
            f"{type(model).__name__} takes a number of labels, their names, or a module"
        )
    if not isinstance(head, HeadConfig):
        raise ConfigError(
            f"add_head(…, {head!r}): give one of graftwork.heads, such as gw.heads.Classification(labels=2)"
        )
    sites = list(state.sites)
    last = ([site for site in sites if site.kind not in ("embedding", "output_projection")] or sites)[-1]
    device = device_of(model.base)
    with made_on(device):
        module = head.build(model.backbone(causal_at(model, last), last.width))
    return OwnHead({HEAD_PATH: module.to(device).train(model.training)}, Labels(head.names), head)


def head_copy(state: ModelState, source: str | None) -> OwnHead | None:
    """A copy of the head of that name, ``None`` if no name is given."""
    if source is None:
        return None
    labels = state.labels(source)
    assert labels is not None
    return OwnHead(building.copy_head(state.model, state.head_of(source)), labels, state.head_config(source))


def made_head(state: ModelState, head: OwnHead | None, like: str | None) -> OwnHead | None:
    """The head that is given, else a copy of the head in use with ``like``, else of the model's own if it has one."""
    if head is not None:
        return head
    if like is not None:
        source = state.head_for(like)
        if source is None:
            raise unknown(like, state.head_labels, "head")
        return head_copy(state, source)
    if not state.head_paths:
        return None
    own = {path: state.model.get_submodule(path) for path in state.head_paths}
    return OwnHead(building.copy_head(state.model, own), state.own_labels)
