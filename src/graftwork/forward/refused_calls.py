"""Calls that would go another way than the composition says, refused before anything is computed."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

from graftwork.compose import BatchSplit, MixedBatch, Replicate
from graftwork.compose.blocks import Block
from graftwork.errors import AttachError, CompositionError
from graftwork.forward.plan import Plan
from graftwork.weights.holder import base_modules

_SORTED = "length_sorted_idx"  # what sentence-transformers calls the order in which it makes batches


def refuse_caller(plan: Plan, model: nn.Module) -> None:
    """Refuse rows by number from a caller that sorts them, and hidden states of layers that training may leave out.

    Args:
        plan: What is active.
        model: The attached model.

    Raises:
        AttachError: If a layer may be left out (LayerDrop) while an adapter reads hidden states by their number.
        CompositionError: If the texts of the batch were sorted by their length.
    """
    if torch.compiler.is_compiling():
        return
    if plan.crossing and model.training:
        _refuse_layerdrop(plan, model)
    parts = plan.composition.walk() if isinstance(plan.composition, Block) else ()
    if any(isinstance(part, (BatchSplit, MixedBatch, Replicate)) for part in parts):
        _refuse_sorted(plan)


def _refuse_layerdrop(plan: Plan, model: nn.Module) -> None:
    for path, owner, name in layerdrops(model):
        rate = getattr(owner, name)
        raise AttachError(
            f"{plan.composition!r} reads hidden states by the number of their layer and adds to the last layer, and in training "
            f"the model leaves out layers at random ({path}.{name} is {rate}); set {path}.{name} = 0.0"
        )


def layerdrops(model: nn.Module) -> list[tuple[str, Any, str]]:
    """Where a probability above 0 of leaving layers out stands: on modules, or in the configuration where none has its own."""
    own: list[tuple[str, Any, str]] = [
        (p, m, "layerdrop") for p, m in base_modules(model) if _is_rate(vars(m).get("layerdrop"))
    ]
    if own:
        return [(f"model.{p}" if p else "model", m, n) for p, m, n in own if m.training and m.layerdrop > 0]
    config = getattr(model, "config", None)
    names = [n for n in vars(config) if n.endswith("layerdrop")] if config is not None else []
    return [("model.config", config, n) for n in names if _is_rate(getattr(config, n)) and getattr(config, n) > 0]


def _is_rate(value: object) -> bool:
    return isinstance(value, (int, float))


def _refuse_sorted(plan: Plan) -> None:
    frame = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("sentence_transformers."):
            order = frame.f_locals.get(_SORTED)
            if order is not None and len(order) > 1:
                raise CompositionError(
                    f"{plan.composition!r} gives out rows by their number, and sentence-transformers sorts the texts by their "
                    "length before it makes batches, so that rows would meet the adapters of others; encode the texts of each "
                    "adapter by themselves, or call the model with the features of texts in order"
                )
        frame = frame.f_back  # type: ignore[assignment]
