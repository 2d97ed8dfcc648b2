"""Gates on what peft makes (Mao et al. 2021, arXiv:2110.07577): on LoRA's addition in each layer, and on a prefix.

A gate is a module among those of peft's layer or encoder, so that its weights are counted, trained and saved with theirs. Its
value is computed from the layer's input in each forward pass, kept in the frame, and multiplies LoRA's last product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graftwork.compose.reads import SiteContext
from graftwork.errors import ConfigError
from graftwork.forward.causality import causal_at
from graftwork.forward.frame import Frame
from graftwork.methods import Gate
from graftwork.peft_bridge.active_names import Active
from graftwork.sites import SiteMap

_GATE = "gate"


class LayerGate(Gate):
    """The gate of one layer of LoRA."""

    active: Active  # whether the layer computes; set by `connect`

    def __init__(self, width: int, *, stack: str, causal: bool, dtype: torch.dtype) -> None:
        super().__init__(width, causal=causal, dtype=dtype)
        self.stack = stack  # the stack of layers that it is in, whose padding mask it uses


def add_gate(model: nn.Module, sites: SiteMap, layer: nn.Module, key: str, path: str, dtype: torch.dtype) -> None:
    """Give a layer of LoRA at a path a gate; ``key`` is the adapter's name in peft.

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
    causal = any_causal(model, sites) if site is None else causal_at(model, site)
    gate = LayerGate(first.in_features, stack="" if site is None else site.stack, causal=causal, dtype=dtype)
    layer.add_module(_GATE, gate.to(first.weight.device))


def connect(layer: nn.Module, key: str, active: Active) -> None:
    """Register the hooks of a layer's gate, where it has one."""
    gate = layer._modules.get(_GATE)
    last = _inside(layer, "lora_B", key)
    if isinstance(gate, LayerGate) and last is not None:
        gate.active = active
        last.__dict__[_GATE] = gate  # not registered: it is a child of the layer
        layer.register_forward_pre_hook(_measure, with_kwargs=True)
        last.register_forward_hook(_multiply)


def _measure(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Forward pre-hook of a layer: compute the gate from its input."""
    gate = layer._modules[_GATE]
    assert isinstance(gate, LayerGate)
    frame = gate.active.runtime.frame
    if frame is not None and gate.active.name in frame.plan.injected:
        read: Tensor = args[0] if args else next(iter(kwargs.values()))
        frame.gates[id(gate)] = gate(read, padding_mask(frame, gate.stack, read))


def _multiply(last: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """Forward hook of LoRA's last product."""
    gate = last.__dict__[_GATE]
    return output * gate.active.runtime.frame.gates[id(gate)].to(output.dtype)


def padding_mask(frame: Frame, stack: str, read: Tensor) -> Tensor | None:
    """The padding mask of a stack, where it has the read's rows and positions."""
    return SiteContext(frame.call.rows, mask=frame.call.mask_at(stack)).padding_mask(read)


def any_causal(model: nn.Module, sites: SiteMap) -> bool:
    """Whether one of the model's stacks is causal."""
    first = {site.stack: site for site in reversed(tuple(sites))}  # the first site of each stack
    return any(causal_at(model, site) for site in first.values())


def _inside(layer: nn.Module, child: str, key: str) -> nn.Module | None:
    found = layer._modules.get(child)
    return None if found is None else found._modules.get(key)
