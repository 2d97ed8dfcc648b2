"""Prompt tuning (Lester et al. 2021, arXiv:2104.08691) and P-tuning (Liu et al. 2021, arXiv:2103.10385).

The encoder that makes the virtual tokens is peft's, so are its weights. They enter the model below its head, in front of the
embeddings, and what that model returns has the positions of the text alone: labels, places in the text, padding and whatever
else reads positions there stay true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.errors import CompositionError, ConfigError
from graftwork.forward.call_inputs import parameter_names
from graftwork.forward.frame import Frame
from graftwork.forward.runtime import Runtime
from graftwork.methods import Peft
from graftwork.peft_bridge.inner_model import Longer, close_inlet, open_inlet
from graftwork.peft_bridge.virtual_tokens import Virtual, inner_model, options_for

_NEEDED = ("input_ids", "inputs_embeds", "attention_mask")
_KNOWN = ("input_ids", "inputs_embeds", "attention_mask", "position_ids", "token_type_ids", "cache_position")


class Prompted(Virtual):
    """One adapter of virtual tokens in front of the text."""

    inner: nn.Module

    def __init__(self, name: str, tuner: nn.Module, many: int, inner: nn.Module, runtime: Runtime) -> None:
        super().__init__(name, tuner, many, inner)
        self.runtime = runtime

    def put_in(self) -> None:
        open_inlet(self.inner, self.runtime)

    def take_out(self) -> None:
        close_inlet(self.inner)

    def enter(self, frame: Frame, names: tuple[str, ...], named: dict[str, Any]) -> dict[str, Any]:
        """The inputs of the model inside with the virtual tokens in front.

        Raises:
            CompositionError: If something in the call has a place for each position, and none for those in front.
        """
        given = named.get("input_ids")
        given = named.get("inputs_embeds") if given is None else given
        if given is None:
            raise CompositionError("a prompt needs input_ids or inputs_embeds, and neither is given")
        past = named.get("past_key_values")
        self._require_readers(named, given, past)
        begun = 0 if past is None else past.get_seq_length()
        self.require_room(given.shape[1] + (max(begun - self.many, 0) if isinstance(begun, int) else 0))
        named.pop("cache_position", None)  # counted from the cache where it is not given
        _lengthen(named, "attention_mask", self.many, 1)
        if named.get("position_ids") is not None:
            named["position_ids"] = named["position_ids"] + self.many
        positions = given.shape[1]
        if not begun:  # at a later step of generating they lie in the cache
            positions += self.many
            self._in_front(named)
        mask = named.get("attention_mask")
        frame.call = Longer(frame.call, mask, self.many, positions if not begun else -1)
        return named

    def _in_front(self, named: dict[str, Any]) -> None:
        ids = named.pop("input_ids", None)
        embeds = named.get("inputs_embeds")
        if embeds is None:
            embeds = self.inner.get_input_embeddings()(ids)  # type: ignore[operator]
        virtual = self.tuner(torch.arange(self.many, device=embeds.device).expand(embeds.shape[0], -1))
        named["inputs_embeds"] = torch.cat([virtual.to(embeds.dtype), embeds], dim=1)
        if named.get("position_ids") is not None:
            positions = torch.arange(self.many, device=embeds.device).expand(named["position_ids"].shape[0], -1)
            named["position_ids"] = torch.cat([positions, named["position_ids"]], dim=1)
        _lengthen(named, "token_type_ids", self.many, 0)

    def _require_readers(self, named: dict[str, Any], given: Tensor, past: Any) -> None:
        """Refuse what would not fit the longer text.

        Raises:
            CompositionError: Naming it.
        """
        rows, positions = given.shape[:2]
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
        ConfigError: If the model is none that virtual tokens can go in front of, or peft refuses the configuration.
    """
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    inner = inner_model(model)
    takes = all(need in parameter_names(inner) for need in _NEEDED)
    if not takes or inner.config.is_encoder_decoder or getattr(inner, "main_input_name", None) != "input_ids":
        raise ConfigError(
            f"peft's {config.kind} goes in front of the tokens of a model of one stack, and {type(inner).__name__} is none; use a "
            "prefix, or a method that stands around layers, such as LoRA, or peft.get_peft_model"
        )
    options = options_for(config, inner)
    embeddings = inner.get_input_embeddings()
    encoder: Callable[..., nn.Module] = PEFT_TYPE_TO_TUNER_MAPPING[options.peft_type]
    try:
        tuner = encoder(options, embeddings) if config.kind == "prompt_tuning" else encoder(options)
    except Exception as error:  # peft raises what it likes; nothing is in the model yet
        raise ConfigError(f"peft refuses {config.peft!r}: {error}") from error
    many = int(config.peft.num_virtual_tokens)
    return Prompted(name, tuner.to(embeddings.weight.device).train(model.training), many, inner, runtime)


def _lengthen(named: dict[str, Any], key: str, many: int, value: int) -> None:
    given = named.get(key)
    if isinstance(given, Tensor) and given.dim() == 2:
        named[key] = torch.cat([given.new_full((given.shape[0], many), value), given], dim=1)
