"""Heads by name on a `Headed` model: made from a configuration, copied, chosen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from graftwork.attach.causality import causal_at
from graftwork.attach.headed import HEAD_PATH, Headed, Together
from graftwork.attach.heads import Labels, head_name
from graftwork.attach.holder import device_of
from graftwork.attach.names import unknown
from graftwork.attach.runtime import OWN
from graftwork.compose import Composition
from graftwork.errors import ConfigError
from graftwork.heads import HeadConfig

if TYPE_CHECKING:
    from graftwork.attach.registry import Registry


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


def make_named_head(registry: Registry, head: Any) -> OwnHead:
    """A new head for a headless base.

    Raises:
        ConfigError: If the model takes none, or the head does not fit it.
    """
    model = registry.model
    if not isinstance(model, Headed):
        raise ConfigError(
            f"a head of a kind stands on a base without one: attach to gw.Headed(base); this {type(model).__name__} takes a "
            "number of labels, their names, or a module"
        )
    if not isinstance(head, HeadConfig):
        raise ConfigError(
            f"add_head(…, {head!r}): give one of graftwork.heads, such as gw.heads.Classification(labels=2)"
        )
    sites = list(registry.sites)
    last = ([site for site in sites if site.kind not in ("embedding", "output_projection")] or sites)[-1]
    device = device_of(model.base)
    with torch.device("meta" if device.type == "meta" else "cpu"):
        module = head.build(model.backbone(causal_at(model, last), last.width))
    return OwnHead({HEAD_PATH: module.to(device).train(model.training)}, Labels(head.names), head)


def heads_in_use(
    composition: Composition, head: Any, known: Collection[str], head_for: Callable[[str], str | None]
) -> str | Together | tuple[Any, ...] | None:
    """Which heads a composition uses: those it is told to, else its own; ``head_for`` says whose a name uses.

    Raises:
        UnknownNameError: If one is not there.
        CompositionError: If several are named and nothing says which.
    """
    if head == OWN:
        return head_name(composition, head_for)
    names = [] if head is None else [head] if isinstance(head, str) else list(head)
    found = []
    for name in names:
        one = head_for(name)
        if one is None:
            raise unknown(name, known, "head")
        found.append(one)
    if not found:
        return None
    return found[0] if len(found) == 1 else Together(tuple(found))
