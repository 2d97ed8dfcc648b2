"""Whether attention in a stack of layers is causal."""

from __future__ import annotations

from typing import Any

from torch import nn

from graftwork.sites import Site
from graftwork.weights.holder import base_modules


def causal_at(model: nn.Module, site: Site) -> bool:
    """Return whether a position at a site sees only earlier positions.

    The configuration decides, then the attention modules of the stack (``is_causal``). Where neither says anything, a model of
    transformers is causal if its type has a causal language model and no masked one.
    """
    config: Any = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        return "decoder" in site.stack
    if getattr(config, "is_decoder", False):
        return True
    try:
        stack = model.get_submodule(site.stack or site.block)
    except AttributeError:  # the stack is no module of the model
        stack = model.get_submodule(site.block)
    flags = [m.is_causal for _, m in base_modules(stack) if isinstance(getattr(m, "is_causal", None), bool)]
    if flags or not hasattr(config, "model_type"):
        return any(flags)
    from transformers.models.auto import modeling_auto as auto  # imported already: the configuration is one of its own

    kind = config.model_type
    return kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
