"""Calls that would not compute what the composition says, refused before anything is computed."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.errors import AttachError, CompositionError
from graftwork.forward.call_inputs import Call
from graftwork.forward.plan import Plan
from graftwork.weights.holder import base_modules

_CACHES = ("past_key_values", "cache_params", "mems", "state")
_SORTED = "length_sorted_idx"  # what sentence-transformers calls the order in which it makes batches


def refuse_caller(plan: Plan, model: nn.Module) -> None:
    """Refuse rows by number from a caller that sorts them, and hidden states of layers that training may leave out.

    Raises:
        AttachError: If a layer may be left out (LayerDrop) while an adapter reads hidden states by their number.
        CompositionError: If the texts of the batch were sorted by their length.
    """
    if torch.compiler.is_compiling():
        return
    for path, owner, name in layerdrops(model) if plan.crossing and model.training else ():
        raise AttachError(
            f"{plan.composition!r} reads hidden states by the number of their layer and adds to the last layer, and in training "
            f"the model leaves out layers at random ({path}.{name} is {getattr(owner, name)}); set {path}.{name} = 0.0"
        )
    if plan.by_rows:
        _refuse_sorted(plan)


def layerdrops(model: nn.Module) -> list[tuple[str, Any, str]]:
    """The probabilities above 0 of leaving layers out: path, owner and attribute.

    They are on modules, or in the configuration where no module has one.
    """
    own: list[tuple[str, Any]] = [(p, m) for p, m in base_modules(model) if _is_rate(vars(m).get("layerdrop"))]
    if own:
        return [(f"model.{p}" if p else "model", m, "layerdrop") for p, m in own if m.training and m.layerdrop > 0]
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
                    f"{plan.composition!r} gives each row an adapter by its number, and sentence-transformers sorts the texts by "
                    "their length before it makes batches, so that rows would get the adapters of others; encode the texts of each "
                    "adapter by themselves, or call the model with the features of texts in order"
                )
        frame = frame.f_back  # type: ignore[assignment]


def refuse_inputs(plan: Plan, call: Call) -> None:
    """Refuse inputs that the composition cannot be computed for.

    Raises:
        CompositionError: If an adapter mixes positions and a cache keeps earlier ones back, or the attention mask is not by rows
            and positions; if positions of a row see one another and several texts are packed into it; if the call has embeddings
            where the model's own are adapted as they are looked up.
    """
    if plan.mixing:
        _refuse_unseen(plan, call)
    if plan.mixing or plan.prompt is not None:
        _refuse_packed(plan, call)
    if plan.looked_up is None:
        return
    for name in ("inputs_embeds", "decoder_inputs_embeds"):
        if call.named.get(name) is not None:
            raise CompositionError(
                f"{plan.composition!r} adds to what {plan.looked_up!r} returns, and with {name} no token is looked up there; give "
                "the tokens"
            )


def _refuse_unseen(plan: Plan, call: Call) -> None:
    """Refuse calls in which an adapter that mixes positions cannot know which of them to look at."""
    cached = next((name for name, causal in plan.mixing.items() if causal), None)
    cache = next((name for name in _CACHES if call.named.get(name) is not None), None)
    if cached is not None and cache is not None:
        raise CompositionError(
            f"{cached!r} mixes positions, and with a cache ({cache}) it is not given the earlier ones; generate with "
            "use_cache=False"
        )
    mask = call.named.get("attention_mask")
    if mask is not None and call.mask is None:
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise CompositionError(
            f"{next(iter(plan.mixing))!r} mixes positions and needs an attention mask (batch, positions), not {shape}; give the "
            "padding mask, and positions that see one another in one row"
        )


def _refuse_packed(plan: Plan, call: Call) -> None:
    """Refuse several texts packed into one row, which what is active would let see one another."""
    positions = call.named.get("position_ids")
    if not isinstance(positions, Tensor) or positions.dim() != 2 or torch.compiler.is_compiling():
        return
    again = positions[:, 1:] <= positions[:, :-1]
    mask = call.mask
    if mask is not None and mask.shape == positions.shape:  # padding is given any position
        text = mask.bool()
        again = again & text[:, 1:] & text[:, :-1]
    if again.any():
        raise CompositionError(
            f"{plan.composition!r} lets positions of a row see one another, and position_ids start again inside a row: several "
            "texts are packed into it; give one text a row, with its padding mask"
        )
