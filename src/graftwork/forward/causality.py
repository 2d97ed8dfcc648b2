"""Whether the positions of a stack of layers see those behind them."""

from __future__ import annotations

from typing import Any

from torch import nn

from graftwork.sites import Site
from graftwork.weights.holder import base_modules


def causal_at(model: nn.Module, site: Site) -> bool:
    """Whether a position at a site sees only those in front of it.

    A configuration that says so is believed, then the attention modules of the stack (``is_causal``). Where neither says
    anything, a model of transformers hides them if its kind predicts next words and has no masked words.
    """
    config = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        return "decoder" in site.stack
    if getattr(config, "is_decoder", False):
        return True
    inside = base_modules(_stack(model, site))
    said = [m.is_causal for _, m in inside if isinstance(getattr(m, "is_causal", None), bool)]
    return any(said) if said else _predicts_next_words(config)


def _stack(model: nn.Module, site: Site) -> nn.Module:
    """The list of blocks that a site belongs to, its block where the stack is no module of the model."""
    try:
        return model.get_submodule(site.stack or site.block)
    except AttributeError:
        return model.get_submodule(site.block)


def _predicts_next_words(config: Any) -> bool:
    if not hasattr(config, "model_type"):
        return False
    from transformers.models.auto import modeling_auto as auto  # the configuration is its own: it is imported already

    kind = config.model_type
    return kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
