"""Prompt learning of peft: virtual tokens in front of the embeddings, or keys and values in front of every attention.

The encoder that makes them is peft's, so are its weights. They enter where the model is called: as ``inputs_embeds``
(prompt tuning, Lester et al. 2021, arXiv:2104.08691; P-tuning, Liu et al. 2021, arXiv:2103.10385), or as
``past_key_values`` (prefix tuning, Li & Liang 2021, arXiv:2101.00190). As with peft, the output has the virtual tokens'
positions in front, and none for a prefix.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.attach.injected.gates import entrances, padding_mask, refuse_ahead
from graftwork.attach.injected.weights import Weights, spots
from graftwork.attach.names import encode
from graftwork.attach.runtime import Frame
from graftwork.errors import AttachError, CompositionError, ConfigError
from graftwork.methods import Gate, Peft
from graftwork.sites import Site, SiteMap

KINDS = ("prompt_tuning", "p_tuning", "prefix_tuning")
_NEEDED = ("input_ids", "inputs_embeds", "attention_mask")


class Prompted:
    """One adapter of virtual tokens.

    Attributes:
        name: The adapter's name.
        tuner: peft's encoder.
        options: Its configuration, with the sizes of the model filled in.
        prefix: Whether it makes keys and values.
        gates: Where the gate of each layer of a prefix reads, by the place of a site; ``None`` for a prefix without.
    """

    def __init__(
        self, name: str, tuner: nn.Module, options: Any, config: Peft, gates: Mapping[int, Site] | None = None
    ) -> None:
        self.name = name
        self.tuner = tuner
        self.options = options
        self.prefix = config.kind == "prefix_tuning"
        self.gates = gates
        self.spots = spots(tuner, "prompt", encode(name), set())
        for spot in self.spots.values():
            spot.tensor.requires_grad_(False)

    def weights(self) -> Weights:
        """Its weights as one module."""
        return Weights({name: spot.tensor for name, spot in self.spots.items()}, self.spots)

    def put_in(self) -> None:
        """Nothing: it enters with the inputs."""

    def take_out(self) -> None:
        """Nothing: no module stands elsewhere."""

    @property
    def hidden(self) -> int:
        """How many columns at the front of the mask are of no position of the layers."""
        return int(self.options.num_virtual_tokens) if self.prefix else 0

    def wait(self, frame: Frame) -> None:
        """Have the prefix of each layer gated when it is known what enters the layer."""
        if self.gates is None:
            return
        cache = frame.call.named["past_key_values"]
        for layer, (index, site) in enumerate(self.gates.items()):
            gate = self.tuner.get_submodule(f"gates.{layer}")
            opening = functools.partial(self._open, frame, cache.layers[layer], gate, site.stack)
            frame.waiting[index, "layer_input"] = opening

    def _open(self, frame: Frame, held: Any, gate: nn.Module, stack: str, entering: Tensor) -> None:
        """Multiply a layer's keys and values ``(batch, heads, tokens, size)`` by its gate.

        Raises:
            AttachError: If attention has taken them already.
        """
        if held.keys.shape[-2] != self.hidden:
            raise AttachError(
                f"{self.name!r}: what enters a layer is seen behind its attention, too late for the gate of a prefix; give the "
                "sites with layer_input=gw.Tap(...) in front of it, or gate=False"
            )
        value = gate(entering, padding_mask(frame, stack, entering)).unsqueeze(-1).to(held.keys)
        held.keys, held.values = held.keys * value, held.values * value

    def follow(self, learning: bool) -> None:
        """Have its dropout on only while it learns."""
        self.tuner.train(learning)

    def require_ours(self, name: str) -> None:
        """Nothing that peft could have set."""

    def enter(
        self,
        model: nn.Module,
        module: nn.Module,
        names: Sequence[str],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The inputs of a call with the virtual tokens in front, all by name.

        Raises:
            CompositionError: If a part of the model is called that does not take tokens, or the model keeps no cache now.
        """
        named = {**dict(zip(names, args, strict=False)), **kwargs}
        if not all(need in names for need in _NEEDED):
            raise CompositionError(
                f"{self.name!r} is active and goes in front of the tokens, which {type(module).__name__} is not given; "
                "call the model"
            )
        many = int(self.options.num_virtual_tokens)
        past = named.get("past_key_values")
        begun = past is not None and past.get_seq_length() > 0
        named.pop("cache_position", None)  # counted from the cache where it is not given
        _lengthen(named, "attention_mask", many, 1)
        if named.get("position_ids") is not None:
            named["position_ids"] = named["position_ids"] + many
        if begun:  # a later step of generating: what is in front lies in the cache
            return named
        rows, device = _rows(named)
        virtual = self.tuner(torch.arange(many, device=device).expand(rows, -1))
        if self.prefix:
            named["past_key_values"] = self._cache(model, past, virtual)
            return named
        return self._in_front(model, named, virtual, many)

    def _in_front(self, model: Any, named: dict[str, Any], virtual: Tensor, many: int) -> dict[str, Any]:
        ids = named.pop("input_ids", None)
        embeds = named.get("inputs_embeds")
        if embeds is None:
            embeds = model.get_input_embeddings().forward(ids)  # past its hooks: no frame is open yet
        named["inputs_embeds"] = torch.cat([virtual.to(embeds.dtype), embeds], dim=1)
        if named.get("position_ids") is not None:
            positions = torch.arange(many, device=embeds.device).expand(named["position_ids"].shape[0], -1)
            named["position_ids"] = torch.cat([positions, named["position_ids"]], dim=1)
        _lengthen(named, "token_type_ids", many, 0)
        labels = named.get("labels")
        if isinstance(labels, Tensor) and labels.shape == embeds.shape[:2]:
            _lengthen(named, "labels", many, -100)
        return named

    def _cache(self, model: Any, past: Any, virtual: Tensor) -> Any:
        if model.training and getattr(model, "is_gradient_checkpointing", False):
            raise CompositionError(
                f"{self.name!r} enters as keys and values in a cache, which transformers drops with gradient checkpointing; "
                "turn that off, or use prompt tuning"
            )
        from transformers import DynamicCache

        layers, heads = int(self.options.num_layers), int(self.options.num_attention_heads)
        rows, many, _ = virtual.shape
        dtype = model.get_input_embeddings().weight.dtype
        parts = virtual.to(dtype).view(rows, many, layers * 2, heads, -1).permute(2, 0, 3, 1, 4)
        cache = DynamicCache() if past is None else past
        for layer in range(layers):
            cache.update(parts[2 * layer], parts[2 * layer + 1], layer)
        return cache


def prompted(model: Any, sites: SiteMap, name: str, config: Peft) -> Prompted:
    """Have peft make the encoder of an adapter of virtual tokens.

    Raises:
        ConfigError: If the model is none that peft's prompts enter, peft refuses the configuration, or a gate cannot be had.
    """
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.utils import _prepare_prompt_learning_config
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_PREFIX_TUNING_POSTPROCESS_MAPPING as special

    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    _require_text(model, config, kind)
    if config.kind == "prefix_tuning" and (kind in special or kind.startswith("gemma")):
        raise ConfigError(f"peft lays out the prefix of {kind} in a way of its own; use peft.get_peft_model")
    options = copy.deepcopy(config.peft)
    options.inference_mode = False
    embeddings = model.get_input_embeddings()
    try:
        options.num_transformer_submodules = options.num_transformer_submodules or 1
        options = _prepare_prompt_learning_config(options, model.config)
        encoder = PEFT_TYPE_TO_TUNER_MAPPING[options.peft_type]
        tuner = encoder(options, embeddings) if config.kind == "prompt_tuning" else encoder(options)
    except Exception as error:  # peft raises what it likes; nothing is in the model yet
        raise ConfigError(f"peft refuses {config.peft!r}: {error}") from error
    gates = _gates(model, sites, tuner, int(options.num_layers), config) if config.gate else None
    return Prompted(name, tuner.to(embeddings.weight.device).train(model.training), options, config, gates)


def _gates(model: nn.Module, sites: SiteMap, tuner: nn.Module, layers: int, config: Peft) -> dict[int, Site]:
    """Give a prefix a gate for each layer; where each reads, in the order of the layers.

    Raises:
        ConfigError: If the model is a decoder, or it is not known what enters a layer.
    """
    refuse_ahead(model, sites)
    known = entrances(sites, layers)
    lacking = [str(n) for n in range(layers) if n not in known]
    if lacking:
        raise ConfigError(
            f"the gate of a prefix reads what enters a layer, which is not known of layer {', '.join(lacking)}; give the sites of "
            "these with layer_input=gw.Tap(...), or gate=False"
        )
    every = list(sites)
    found = {known[n]: every[known[n]] for n in range(layers)}
    gates = [Gate(site.width, causal=False, dtype=config.torch_dtype) for site in found.values()]
    tuner.add_module("gates", nn.ModuleList(gates))
    return found


def _require_text(model: Any, config: Peft, kind: str) -> None:
    if config.kind not in KINDS or config.peft.modules_to_save:
        raise ConfigError(
            f"peft's {config.kind} (modules_to_save={config.peft.modules_to_save}) needs a forward of peft's own model; use "
            f"peft.get_peft_model(model, config) before gw.attach(model), or one of {', '.join(KINDS)} without modules_to_save"
        )
    text = getattr(model, "main_input_name", None) == "input_ids" and hasattr(model, "get_input_embeddings")
    if not text or model.config.is_encoder_decoder:
        raise ConfigError(
            f"peft's {config.kind} enters a model of one stack that is given tokens, and {kind} is none; use a method that "
            "stands around layers, such as LoRA, or peft.get_peft_model"
        )


def _rows(named: Mapping[str, Any]) -> tuple[int, torch.device]:
    for key in ("input_ids", "inputs_embeds"):
        if named.get(key) is not None:
            return named[key].shape[0], named[key].device
    raise CompositionError("a prompt needs input_ids or inputs_embeds, and neither is given")


def _lengthen(named: dict[str, Any], key: str, many: int, value: int) -> None:
    given = named.get(key)
    if isinstance(given, Tensor) and given.dim() == 2:
        named[key] = torch.cat([given.new_full((given.shape[0], many), value), given], dim=1)
