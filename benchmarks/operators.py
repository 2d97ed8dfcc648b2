"""How many operators a step runs, by torch's profiler: what a GPU pays for, whatever their size."""

from __future__ import annotations

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

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
