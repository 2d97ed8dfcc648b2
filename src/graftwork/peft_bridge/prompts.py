"""Prompt tuning (Lester et al. 2021, arXiv:2104.08691) and P-tuning (Liu et al. 2021, arXiv:2103.10385).

The encoder that makes the virtual tokens is peft's, and so are its weights. The tokens enter the model below its head, in front
of the embeddings, and what that model returns has the positions of the text alone: labels, positions in the text, padding and
everything else by position stay valid.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graftwork.errors import CompositionError, ConfigError
from graftwork.forward.call_inputs import parameter_names
from graftwork.forward.frame import Frame
from graftwork.forward.runtime import Runtime
from graftwork.methods import Peft
from graftwork.peft_bridge.inner_model import Longer
from graftwork.peft_bridge.virtual_tokens import Virtual, encoder_of, inner_model, options_for

_NEEDED = ("input_ids", "inputs_embeds", "attention_mask")
_KNOWN = ("input_ids", "inputs_embeds", "attention_mask", "position_ids", "token_type_ids", "cache_position")


class Prompted(Virtual):
    """One adapter of virtual tokens in front of the text."""

    inner: nn.Module

    def enter(self, frame: Frame, names: tuple[str, ...], named: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of the model inside with the virtual tokens in front.

        Raises:
            CompositionError: If something in the call has a value for each position, and none for those in front.
        """
        ids = named.get("input_ids")
        text = named.get("inputs_embeds") if ids is None else ids
        if text is None:
            raise CompositionError("a prompt needs input_ids or inputs_embeds, and the call has neither")
        past = named.get("past_key_values")
        self._refuse_by_position(named, text, past)
        cached = 0 if past is None else past.get_seq_length()
        self.require_room(text.shape[1] + (max(cached - self.tokens, 0) if isinstance(cached, int) else 0))
        named.pop("cache_position", None)  # counted from the cache where it is not given
        _lengthen(named, "attention_mask", self.tokens, 1)
        if named.get("position_ids") is not None:
            named["position_ids"] = named["position_ids"] + self.tokens
        if not cached:  # at a later step of generating they are in the cache
            self._in_front(named)
        positions = -1 if cached else text.shape[1] + self.tokens
        frame.call = Longer(frame.call, named.get("attention_mask"), self.tokens, positions)
        return named

    def _in_front(self, named: dict[str, Any]) -> None:
        ids = named.pop("input_ids", None)
        embeds = named.get("inputs_embeds")
        if embeds is None:
            embeds = self.inner.get_input_embeddings()(ids)  # type: ignore[operator]
        virtual = self.tuner(torch.arange(self.tokens, device=embeds.device).expand(embeds.shape[0], -1))
        named["inputs_embeds"] = torch.cat([virtual.to(embeds.dtype), embeds], dim=1)
        if named.get("position_ids") is not None:
            positions = torch.arange(self.tokens, device=embeds.device).expand(named["position_ids"].shape[0], -1)
            named["position_ids"] = torch.cat([positions, named["position_ids"]], dim=1)
        _lengthen(named, "token_type_ids", self.tokens, 0)

    def _refuse_by_position(self, named: dict[str, Any], text: Tensor, past: Any) -> None:
        """Refuse inputs that would not fit the longer text."""
        rows, positions = text.shape[:2]
        mask = named.get("attention_mask")
        if mask is not None and not (isinstance(mask, Tensor) and mask.dim() == 2):
            raise CompositionError(
                f"{self.name!r} goes in front of the text and needs an attention mask (batch, positions); with a static cache "
                "generate makes another: leave cache_implementation out, or use a prefix"
            )
        if getattr(past, "is_compileable", False):
            raise CompositionError(
                f"{self.name!r} goes in front of the text, for which a static cache has no room; leave cache_implementation "
                "out, or use a prefix"
            )
        for key, value in named.items():
            by_position = isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] == (rows, positions)
            odd = key == "position_ids" and isinstance(value, Tensor) and value.dim() != 2
            if (by_position and key not in _KNOWN) or odd:
                raise CompositionError(
                    f"{self.name!r} puts virtual tokens in front, and {key} has a place for each position of the text but none for "
                    "them; leave it out, or use a method that adds no positions, such as a prefix or LoRA"
                )


def prompted(model: Any, name: str, config: Peft, runtime: Runtime) -> Prompted:
    """Have peft make the encoder of an adapter of virtual tokens.

    Raises:
        ConfigError: If virtual tokens cannot go in front of the model's inputs, or peft refuses the configuration.
    """
    inner = inner_model(model)
    takes = all(need in parameter_names(inner) for need in _NEEDED)
    if not takes or inner.config.is_encoder_decoder or getattr(inner, "main_input_name", None) != "input_ids":
        raise ConfigError(
            f"peft's {config.kind} goes in front of the tokens of a model of one stack, and {type(inner).__name__} is none; use a "
            "prefix, or a method that wraps layers, such as LoRA, or peft.get_peft_model"
        )
    options = options_for(config, inner)
    embeddings = inner.get_input_embeddings()
    tuner = encoder_of(config, options, *([embeddings] if config.kind == "prompt_tuning" else []))
    tuner.to(embeddings.weight.device).train(model.training)
    return Prompted(name, tuner, int(config.peft.num_virtual_tokens), inner, runtime)


def _lengthen(named: dict[str, Any], key: str, tokens: int, value: int) -> None:
    """Put a value for each virtual token in front of an input by position, if the call has it."""
    values = named.get(key)
    if isinstance(values, Tensor) and values.dim() == 2:
        named[key] = torch.cat([values.new_full((values.shape[0], tokens), value), values], dim=1)
