"""What a step costs, counted: multiply-adds, operators, and the bytes that are kept for the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.timing import Step

# Operators that only look at a tensor in another way, or reserve memory: no kernel runs for them.
_WITHOUT_KERNEL = frozenset(
    f"aten::{name}"
    for name in (
        "_reshape_alias _unsafe_view alias as_strided broadcast_tensors chunk contiguous detach detach_ dropout empty empty_like "
        "empty_strided expand expand_as flatten lift_fresh numpy_T permute reshape resize_ resolve_conj resolve_neg result_type "
        "select slice split squeeze t to transpose unflatten unsqueeze view view_as"
    ).split()
)


def multiply_adds(step: Step) -> int:
    """Return how many multiplications with an addition the matrix products and attentions of one run of a step have."""
    # torch counts the attentions of GPUs by itself
    on_cpu: dict[Any, Any] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as found:
        step()
    return found.get_total_flops() // 2


def kept_for_backward(model: nn.Module, step: Step) -> int:
    """Return the bytes of what one forward pass keeps for the backward pass, without the model's parameters."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Any] = {}  # by address: what is kept stays, so that no address is met twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(storage.nbytes() for storage in kept.values())


def operators(step: Step) -> int:
    """Return how many operators of torch one run of a step calls.

    Counted is a call of an operator (``aten::…``) inside which no other is counted; views, and memory that is only reserved, are
    none.
    """
    step()  # what is made once is made
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    return sum(_within(event) for event in found.events() or () if event.cpu_parent is None)


def _within(event: Any) -> int:
    inside = sum(_within(child) for child in event.cpu_children)
    return inside or int(event.name.startswith("aten::") and event.name not in _WITHOUT_KERNEL)
