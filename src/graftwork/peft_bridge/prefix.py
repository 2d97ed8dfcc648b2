"""Prefix tuning (Li & Liang 2021, arXiv:2101.00190): keys and values of peft's encoder in front of every attention.

Encoders keep their positions, as the authors' do. In a model of one causal stack the text's positions continue those of the
prefix, as they do in the published code, which puts the prefix into the cache. An encoder-decoder has a prefix for the encoder's
self-attention, one for the decoder's, and one for its cross-attention, each with an encoder of its own, as published for BART.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.errors import AttachError, ConfigError
from graftwork.forward.causality import causal_at
from graftwork.forward.frame import Frame
from graftwork.forward.plan import Plan
from graftwork.forward.runtime import Runtime
from graftwork.methods import Gate, Peft
from graftwork.peft_bridge.attention import Attending, Pair, close_blocks, open_blocks
from graftwork.peft_bridge.gates import any_causal, padding_mask
from graftwork.peft_bridge.virtual_tokens import Virtual, encoder_of, inner_model, options_for
from graftwork.sites import Site, SiteMap

_ATTENTIONS = ("attention", "cross_attention", "composite")


@dataclasses.dataclass(frozen=True)
class Slot:
    """One attention of the model."""

    group: str  # the path in the tuner of the encoder that makes its keys and values
    shape: tuple[int, ...]  # of what that encoder makes: tokens, layers, keys and values, heads, size
    layer: int  # its place among the layers of that encoder
    stack: str  # the stack of layers that it is in
    entrance: int | None  # for a gate: the number of the site to which the layer's input is carried


# For each module with attentions those of each of its calls in one forward pass.
Slots = dict[str, list[list[Slot]]]


class Prefix(Virtual):
    """One adapter of keys and values."""

    def __init__(
        self,
        name: str,
        tuner: nn.Module,
        tokens: int,
        inner: nn.Module | None,
        runtime: Runtime,
        model: nn.Module,
        slots: Slots,
    ) -> None:
        super().__init__(name, tuner, tokens, inner, runtime)
        self.model = model
        self.slots = slots

    def put_in(self) -> None:
        open_blocks(self.model, list(self.slots), self.runtime)
        super().put_in()

    def take_out(self) -> None:
        close_blocks(self.model, list(self.slots))
        super().take_out()

    def prepare(self, plan: Plan) -> None:
        for slot in (slot for calls in self.slots.values() for call in calls for slot in call):
            if slot.entrance is not None:
                plan.taps[slot.entrance] = plan.taps.get(slot.entrance, frozenset()) | {"layer_input"}

    def fronts(self, frame: Frame, block: Attending) -> list[Callable[[], Pair]]:
        calls = self.slots[block.path]
        call = 0
        if len(calls) > 1:
            key = -1 - block.number
            call = frame.counts.get(key, 0)
            frame.counts[key] = call + 1
        return [functools.partial(self._front, frame, slot) for slot in calls[call % len(calls)]]

    def enter(self, frame: Frame, names: tuple[str, ...], named: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of the model inside: positions continue those of the prefix."""
        ids = named.get("input_ids")
        text = named.get("inputs_embeds") if ids is None else ids
        if text is None or "position_ids" not in names:
            return named
        past = named.get("past_key_values")
        cached = 0 if past is None else past.get_seq_length()
        if isinstance(cached, int):
            self.require_room(cached + text.shape[1])
        positions = named.get("position_ids")
        if positions is None:
            positions = (torch.arange(text.shape[1], device=text.device) + cached)[None]
        return {**named, "position_ids": positions + self.tokens}

    def _front(self, frame: Frame, slot: Slot) -> Pair:
        """The keys and values ``(1 or batch, heads, tokens, size)`` of an attention."""
        encoder = self.tuner.get_submodule(slot.group)
        made = frame.gates.get(id(encoder))
        if made is None:
            made = encoder(torch.arange(self.tokens, device=next(encoder.parameters()).device))
            if frame.opener is not None and not frame.bound:  # a checkpointed block makes its own, also when recomputed
                frame.gates[id(encoder)] = made
        keys, values = made.view(slot.shape)[:, slot.layer].permute(1, 2, 0, 3).unsqueeze(1)
        if slot.entrance is None:
            return keys, values
        entering = frame.taps.get((slot.entrance, "layer_input"))
        if entering is None:
            raise AttachError(
                f"{self.name!r}: the input of a layer is seen after its attention, too late for the gate of a prefix; give the "
                "sites with layer_input=gw.Tap(...) before it, or gate=False"
            )
        gate = self.tuner.get_submodule(f"gates.{slot.layer}")
        value: Tensor = gate(entering, padding_mask(frame, slot.stack, entering)).unsqueeze(-1)
        return keys * value, values * value


def prefix(model: Any, sites: SiteMap, name: str, config: Peft, runtime: Runtime) -> Prefix:
    """Have peft make the encoder, or the encoders, of a prefix.

    Raises:
        ConfigError: If the model has no attention that is known, computes it in a way that cannot be followed, peft refuses the
            configuration, or a gate is not possible.
    """
    inner = inner_model(model)
    how = getattr(inner.config, "_attn_implementation", None)
    if how not in (None, "eager", "sdpa"):
        raise ConfigError(
            f"a prefix goes in front of the keys and values, which attn_implementation={how!r} does not show; load the model with "
            "attn_implementation='sdpa'"
        )
    found = _groups(sites)
    if not found:
        raise ConfigError(
            f"a prefix goes in front of every attention, and {type(model).__name__} has none at its sites; use LoRA or an adapter"
        )
    first = next(iter(found.values()))
    _require_every_layer(inner, sites, found)
    entrances = _entrances(model, sites, len(first)) if config.gate else {}
    tokens = int(config.peft.num_virtual_tokens)
    tuners: dict[str, nn.Module] = {}
    slots: Slots = {}
    for key, here in found.items():
        options = _options(config, inner, here)
        group = "" if len(found) == 1 else key
        tuners[group] = encoder_of(config, options)
        shape = (tokens, len(here), 2, int(options.num_attention_heads), -1)
        for layer, site in enumerate(here):
            path = _attending(model, sites, site)
            calls = slots.setdefault(path, [])
            call = sum(_attending(model, sites, other) == path for other in here[:layer])
            calls.extend([] for _ in range(call + 1 - len(calls)))
            calls[call].append(Slot(group, shape, layer, site.stack, entrances.get(site.layer)))
    tuner = tuners[""] if "" in tuners else nn.ModuleDict(tuners)
    if config.gate:
        gates = [Gate(site.width, causal=False, dtype=config.torch_dtype) for site in first]
        tuner.add_module("gates", nn.ModuleList(gates))
    tuner.to(next(inner.parameters()).device).train(model.training)
    continues = len(found) == 1 and causal_at(model, first[0])
    return Prefix(name, tuner, tokens, inner if continues else None, runtime, model, slots)


def _groups(sites: SiteMap) -> dict[str, list[Site]]:
    """The attentions of each encoder, layer after layer: those of one kind in one stack."""
    found: dict[str, list[Site]] = {}
    for site in sites:
        if site.kind in _ATTENTIONS:
            stack = site.stack.removeprefix(sites.prefix).replace(".", "_") or "layers"
            index = "" if not site.index else f"_{site.index}"
            found.setdefault(f"{stack}_{site.kind}{index}", []).append(site)
    return found


def _require_every_layer(inner: Any, sites: SiteMap, found: dict[str, list[Site]]) -> None:
    """Refuse sites given by hand that leave layers out: a prefix in some of them alone is another method."""
    stacks = {here[0].stack for here in found.values()}
    number = getattr(inner.config, "num_hidden_layers", None)
    if len(stacks) > 1 or not isinstance(number, int):
        return
    missing = sorted({*range(number)} - {site.layer for site in sites if site.stack in stacks})
    if missing:
        raise ConfigError(
            f"a prefix goes in front of every attention, which is not known of layer {', '.join(map(str, missing))}; give the "
            "sites of all layers"
        )


def _attending(model: nn.Module, sites: SiteMap, site: Site) -> str:
    """The path of the module in which the attention of a site runs: the outermost one of the block that has no other site."""
    others = [s.output.module for s in sites if s.output.module != site.output.module or s.kind != site.kind]
    start = f"{site.block}." if site.block else ""
    if site.output.module.startswith(start):
        parts = site.output.module.removeprefix(start).split(".")
        for end in range(1, len(parts) + 1):
            path = start + ".".join(parts[:end])
            if not any(other == path or other.startswith(f"{path}.") for other in others):
                return path if any(True for _ in model.get_submodule(path).children()) else site.block
    return site.block


def _options(config: Peft, inner: Any, here: list[Site]) -> Any:
    """Peft's options for the attentions of one encoder; a number of layers that is not theirs is refused."""
    base = inner.config
    known = {"num_layers": len(here)}
    if "decoder" in here[0].stack and isinstance(getattr(base, "decoder_attention_heads", None), int):
        known["num_attention_heads"] = base.decoder_attention_heads
    options = options_for(config, inner, **known)
    if config.peft.token_dim is None and isinstance(getattr(base, "d_kv", None), int):
        options.token_dim = base.d_kv * options.num_attention_heads
    if options.num_layers != len(here):
        raise ConfigError(
            f"PrefixTuningConfig: num_layers is {options.num_layers}, and {here[0].stack or 'the model'} has {len(here)} layers "
            "with attention; leave it out"
        )
    return options


def _entrances(model: nn.Module, sites: SiteMap, layers: int) -> dict[int, int]:
    """For each layer, the number of its first site that has the layer's input; a decoder is refused."""
    if any_causal(model, sites):
        raise ConfigError(
            f"the gate of a prefix is one number a row, the mean over all positions, and in {type(model).__name__} a position "
            "must not see later ones; leave that gate out: UniPELT(gated=('lora', 'adapter')), or Peft(..., gate=False)"
        )
    found: dict[int, int] = {}
    for index, site in enumerate(sites):
        if site.stack and site.layer_input is not None and site.layer < layers:
            found.setdefault(site.layer, index)
    missing = [str(n) for n in range(layers) if n not in found]
    if missing:
        raise ConfigError(
            f"the gate of a prefix reads the input of a layer, which is not known of layer {', '.join(missing)}; give the sites "
            "of these with layer_input=gw.Tap(...), or gate=False"
        )
    return found
