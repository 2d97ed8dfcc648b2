"""Prefix tuning (Li & Liang 2021, arXiv:2101.00190): keys and values of peft's encoder in front of every attention.

Encoders keep their positions, as the authors' do. In a model of one causal stack the text's positions count on from the
prefix's, as they do there in the published cache. An encoder-decoder has a prefix for the encoder's self-attention, one for the
decoder's, and one for its cross-attention, each with an encoder of its own, as published for BART.
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
from graftwork.peft_bridge.gates import entrances, padding_mask, refuse_ahead
from graftwork.peft_bridge.inner_model import close_inlet, open_inlet
from graftwork.peft_bridge.virtual_tokens import Virtual, inner_model, options_for
from graftwork.sites import Site, SiteMap

_ATTENTIONS = ("attention", "cross_attention", "composite")


@dataclasses.dataclass(frozen=True)
class Slot:
    """One attention of the model.

    Attributes:
        group: Which encoder makes its keys and values.
        layer: Its place among those of that encoder.
        stack: The stack of layers that it is in.
        entrance: The place of the site at which it is known what enters the layer, for a gate; ``None`` without.
    """

    group: str
    layer: int
    stack: str
    entrance: int | None = None


@dataclasses.dataclass
class Group:
    """The attentions of one encoder: how many layers, and how many heads of keys and values each has."""

    layers: int
    heads: int


class Prefix(Virtual):
    """One adapter of keys and values.

    Attributes:
        groups: The encoders, by their path in the tuner.
        slots: For each module with attentions those of each of its calls in one forward pass.
    """

    def __init__(
        self,
        name: str,
        tuner: nn.Module,
        many: int,
        inner: nn.Module | None,
        groups: dict[str, Group],
        slots: dict[str, list[list[Slot]]],
        model: nn.Module,
        runtime: Runtime,
    ) -> None:
        super().__init__(name, tuner, many, inner)
        self.groups = groups
        self.slots = slots
        self.model = model
        self.runtime = runtime

    def put_in(self) -> None:
        open_blocks(self.model, list(self.slots), self.runtime)
        if self.inner is not None:
            open_inlet(self.inner, self.runtime)

    def take_out(self) -> None:
        close_blocks(self.model, list(self.slots))
        if self.inner is not None:
            close_inlet(self.inner)

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
        """The inputs of the model inside: positions count on behind the prefix."""
        given = named.get("input_ids")
        given = named.get("inputs_embeds") if given is None else given
        if given is None or "position_ids" not in names:
            return named
        past = named.get("past_key_values")
        begun = 0 if past is None else past.get_seq_length()
        if isinstance(begun, int):
            self.require_room(begun + given.shape[1])
        positions = named.get("position_ids")
        if positions is None:
            positions = (torch.arange(given.shape[1], device=given.device) + begun)[None]
        return {**named, "position_ids": positions + self.many}

    def _front(self, frame: Frame, slot: Slot) -> Pair:
        """The keys and values ``(1 or batch, heads, tokens, size)`` of an attention.

        Raises:
            AttachError: If it is not known yet what enters the layer, which its gate reads.
        """
        encoder = self.tuner.get_submodule(slot.group)
        made = frame.gates.get(id(encoder))
        if made is None:
            made = encoder(torch.arange(self.many, device=next(encoder.parameters()).device))
            if (
                frame.opener is not None and not frame.bound
            ):  # a checkpointed block makes its own, then and when recomputed
                frame.gates[id(encoder)] = made
        group = self.groups[slot.group]
        parts = made.view(self.many, group.layers, 2, group.heads, -1)
        keys, values = parts[:, slot.layer].permute(1, 2, 0, 3).unsqueeze(1)
        if slot.entrance is None:
            return keys, values
        value = self._gate(frame, slot, slot.entrance)
        return keys * value, values * value

    def _gate(self, frame: Frame, slot: Slot, entrance: int) -> Tensor:
        entering = frame.taps.get((entrance, "layer_input"))
        if entering is None:
            raise AttachError(
                f"{self.name!r}: what enters a layer is seen behind its attention, too late for the gate of a prefix; give the "
                "sites with layer_input=gw.Tap(...) in front of it, or gate=False"
            )
        gate = self.tuner.get_submodule(f"gates.{slot.layer}")
        value: Tensor = gate(entering, padding_mask(frame, slot.stack, entering))
        return value.unsqueeze(-1)


def prefix(model: Any, sites: SiteMap, name: str, config: Peft, runtime: Runtime) -> Prefix:
    """Have peft make the encoder, or the encoders, of a prefix.

    Raises:
        ConfigError: If the model has no attention that is known, computes it in a way that cannot be followed, peft refuses the
            configuration, or a gate cannot be had.
    """
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    inner = inner_model(model)
    how = getattr(inner.config, "_attn_implementation", None)
    if how not in (None, "eager", "sdpa"):
        raise ConfigError(
            f"a prefix goes in front of the keys and values, and attn_implementation={how!r} computes out of sight; load the "
            "model with attn_implementation='sdpa'"
        )
    found = _groups(sites)
    if not found:
        raise ConfigError(
            f"a prefix goes in front of every attention, and {type(model).__name__} has none at its sites; use LoRA or an adapter"
        )
    first = next(iter(found.values()))
    _require_every_layer(inner, sites, found)
    entering = _entering(model, sites, len(first)) if config.gate else {}
    tuners: dict[str, nn.Module] = {}
    groups: dict[str, Group] = {}
    slots: dict[str, list[list[Slot]]] = {}
    for key, here in found.items():
        options = _options(config, inner, here)
        group = "" if len(found) == 1 else key
        try:
            tuners[group] = PEFT_TYPE_TO_TUNER_MAPPING[options.peft_type](options)
        except Exception as error:  # peft raises what it likes; nothing is in the model yet
            raise ConfigError(f"peft refuses {config.peft!r}: {error}") from error
        groups[group] = Group(len(here), int(options.num_attention_heads))
        for layer, site in enumerate(here):
            path = _attending(model, sites, site)
            calls = slots.setdefault(path, [])
            call = sum(_attending(model, sites, other) == path for other in here[:layer])
            calls.extend([] for _ in range(call + 1 - len(calls)))
            calls[call].append(Slot(group, layer, site.stack, entering.get(site.layer)))
    tuner = tuners[""] if "" in tuners else nn.ModuleDict(tuners)
    if config.gate:
        gates = [Gate(site.width, causal=False, dtype=config.torch_dtype) for site in first]
        tuner.add_module("gates", nn.ModuleList(gates))
    tuner.to(next(inner.parameters()).device).train(model.training)
    counts_on = len(found) == 1 and causal_at(model, first[0])
    many = int(config.peft.num_virtual_tokens)
    return Prefix(name, tuner, many, inner if counts_on else None, groups, slots, model, runtime)


def _groups(sites: SiteMap) -> dict[str, list[Site]]:
    """The attentions that one encoder serves, layer after layer: one of each kind in each stack."""
    found: dict[str, list[Site]] = {}
    for site in sites:
        if site.kind in _ATTENTIONS:
            stack = site.stack.removeprefix(sites.prefix).replace(".", "_") or "layers"
            index = "" if not site.index else f"_{site.index}"
            found.setdefault(f"{stack}_{site.kind}{index}", []).append(site)
    return found


def _require_every_layer(inner: Any, sites: SiteMap, found: dict[str, list[Site]]) -> None:
    """Refuse sites given by hand that leave layers out: a prefix in some of them alone is another method.

    Raises:
        ConfigError: Naming the layers.
    """
    stacks = {here[0].stack for here in found.values()}
    number = getattr(inner.config, "num_hidden_layers", None)
    if len(stacks) > 1 or not isinstance(number, int):
        return
    known = {site.layer for site in sites if site.stack in stacks}
    lacking = [str(n) for n in range(number) if n not in known]
    if lacking:
        raise ConfigError(
            f"a prefix goes in front of every attention, which is not known of layer {', '.join(lacking)}; give the sites of all "
            "layers"
        )


def _attending(model: nn.Module, sites: SiteMap, site: Site) -> str:
    """The path of the module in which the attention of a site runs: the outermost of the block's that is its alone."""
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
    """Peft's options for the attentions of one encoder.

    Raises:
        ConfigError: If it was told of other layers than there are.
    """
    told = inner.config
    known = {"num_layers": len(here)}
    if "decoder" in here[0].stack and isinstance(getattr(told, "decoder_attention_heads", None), int):
        known["num_attention_heads"] = told.decoder_attention_heads
    options = options_for(config, inner, **known)
    if config.peft.token_dim is None and isinstance(getattr(told, "d_kv", None), int):
        options.token_dim = told.d_kv * options.num_attention_heads
    if options.num_layers != len(here):
        raise ConfigError(
            f"PrefixTuningConfig: num_layers is {options.num_layers}, and {here[0].stack or 'the model'} has {len(here)} layers "
            "with attention; leave it out"
        )
    return options


def _entering(model: nn.Module, sites: SiteMap, layers: int) -> dict[int, int]:
    """For each layer the place of the site at which it is known what enters it.

    Raises:
        ConfigError: If the model is a decoder, or it is not known of a layer.
    """
    refuse_ahead(model, sites)
    known = entrances(sites, layers)
    lacking = [str(n) for n in range(layers) if n not in known]
    if lacking:
        raise ConfigError(
            f"the gate of a prefix reads what enters a layer, which is not known of layer {', '.join(lacking)}; give the sites of "
            "these with layer_input=gw.Tap(...), or gate=False"
        )
    return known
