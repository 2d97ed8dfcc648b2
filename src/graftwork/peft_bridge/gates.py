"""Gates on what peft makes (Mao et al. 2021, arXiv:2110.07577): of LoRA's addition, layer by layer, and of a prefix.

A gate is a module among those of peft's layer or encoder, so that its weights are counted, trained and saved with theirs. Its
value belongs to one forward pass and is kept in the frame: what enters the layer opens it, LoRA's last product is multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.compose.reads import SiteContext
from graftwork.errors import ConfigError
from graftwork.forward.causality import causal_at
from graftwork.forward.frame import Frame
from graftwork.methods import Gate
from graftwork.peft_bridge.active_names import Active
from graftwork.sites import Site, SiteMap

_GATE = "gate"


class LayerGate(Gate):
    """The gate of one layer of LoRA.

    Attributes:
        stack: The stack of layers that it stands in, whose padding mask it takes.
        active: What says whether the layer computes, set when it stands in the model.
    """

    active: Active

    def __init__(self, width: int, *, stack: str, causal: bool, dtype: torch.dtype) -> None:
        super().__init__(width, causal=causal, dtype=dtype)
        self.stack = stack


def add_gate(model: nn.Module, sites: SiteMap, layer: nn.Module, key: str, path: str, dtype: torch.dtype) -> None:
    """Give a layer of LoRA a gate.

    Args:
        model: The model.
        sites: Its sites, which say what stack a path is in.
        layer: The layer.
        key: What peft calls the adapter.
        path: Where the layer stands.
        dtype: The dtype of the gate's weights.

    Raises:
        ConfigError: If it is no linear map.
    """
    first = _inside(layer, "lora_A", key)
    if not isinstance(first, nn.Linear) or _inside(layer, "lora_B", key) is None:
        raise ConfigError(
            f"the {type(layer).__name__} at {path!r} reads no features of positions that a gate could read; leave it out of "
            "target_modules, or give gate=False"
        )
    site = next((s for s in sites if s.stack and path.startswith(f"{s.stack}.")), None)
    causal = causal_at(model, site) if site is not None else any(causal_at(model, s) for s in _one_a_stack(sites))
    gate = LayerGate(first.in_features, stack="" if site is None else site.stack, causal=causal, dtype=dtype)
    layer.add_module(_GATE, gate.to(first.weight.device))


def connect(layer: nn.Module, key: str, active: Active) -> None:
    """Have a layer's gate measured and multiplied, where it has one."""
    gate = layer._modules.get(_GATE)
    last = _inside(layer, "lora_B", key)
    if isinstance(gate, LayerGate) and last is not None:
        gate.active = active
        last.__dict__[_GATE] = gate  # no child of its own
        layer.register_forward_pre_hook(_measure, with_kwargs=True)
        last.register_forward_hook(_multiply)


def _measure(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Forward pre-hook of a layer: the gate of what enters it."""
    gate = layer._modules[_GATE]
    assert isinstance(gate, LayerGate)
    frame = gate.active.runtime.frame
    if frame is not None and gate.active.name in frame.plan.injected:
        read: Tensor = args[0] if args else next(iter(kwargs.values()))
        frame.gates[id(gate)] = gate(read, padding_mask(frame, gate.stack, read))


def _multiply(last: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """Forward hook of LoRA's last product."""
    gate = last.__dict__[_GATE]
    value = gate.active.runtime.frame.gates[id(gate)]
    return output * value.to(output.dtype)


def padding_mask(frame: Frame, stack: str, read: Tensor) -> Tensor | None:
    """The padding mask of a stack, where it has the read's rows and positions."""
    return SiteContext(frame.call.rows, mask=frame.call.mask_at(stack)).padding_mask(read)


def entrances(sites: SiteMap, layers: int) -> dict[int, int]:
    """For each layer of a model of one stack the place of a site at which it is known what enters the layer."""
    found: dict[int, int] = {}
    for index, site in enumerate(sites):
        if site.stack and site.layer_input is not None and site.layer < layers:
            found.setdefault(site.layer, index)
    return found


def refuse_ahead(model: nn.Module, sites: SiteMap) -> None:
    """Refuse a prefix's gate in a decoder.

    Raises:
        ConfigError: If positions do not see those behind them.
    """
    if any(causal_at(model, site) for site in _one_a_stack(sites)):
        raise ConfigError(
            f"the gate of a prefix is one number a row, the mean over all positions, and in {type(model).__name__} a position "
            "must not see those behind it; leave that gate out: UniPELT(gated=('lora', 'adapter')), or Peft(..., gate=False)"
        )


def _one_a_stack(sites: SiteMap) -> list[Site]:
    found: dict[str, Site] = {}
    for site in sites:
        found.setdefault(site.stack, site)
    return list(found.values())


def _inside(layer: nn.Module, child: str, key: str) -> nn.Module | None:
    found = layer._modules.get(child)
    modules: Mapping[str, nn.Module | None] = {} if found is None else found._modules
    return modules.get(key)
