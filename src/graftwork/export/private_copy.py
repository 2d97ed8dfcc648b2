"""A copy of a model that an export may change: its own modules and hooks, over the same weights.

In the copy the LoRAs whose sum is one matrix are in the base's weights, fusions are folded, and everything that is made of
weights alone is made already.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.attach import Handle, handle_of
from graftwork.attach.base_merge import changes_of
from graftwork.compose import Composition, Stack, fusions_in, names_in
from graftwork.errors import AttachError, CompositionError, ConfigError, ExportError
from graftwork.forward.heads_in_use import SeveralHeads, heads_in_use
from graftwork.weights.sharded import refuse_shards


def private_copy(handle: Handle) -> Handle:
    """Copy a model with its adapters, on the CPU, frozen and in evaluation mode; a weight that is there already is shared.

    Raises:
        ExportError: If weights are elsewhere (offloaded, or on the meta device), or the model cannot be copied.
    """
    model = handle.model
    refuse_shards(model, "export")
    away = next((name for name, p in model.named_parameters() if p.is_meta), None)
    if away is not None:
        raise ExportError(
            f"the weight {away!r} is not in memory (offloaded, or on the meta device); export a model that is loaded whole"
        )
    with handle.lock:
        memo: dict[int, Any] = {
            id(p): nn.Parameter(p.detach().cpu(), requires_grad=False)
            for p in model.parameters()
            if type(p) is nn.Parameter
        }
        try:
            made = copy.deepcopy(model, memo)
        except Exception as error:  # whatever an object on the model raises when it is copied
            raise ExportError(f"this {type(model).__name__} cannot be copied: {error}") from error
    made.requires_grad_(False)
    return handle_of(made.cpu().eval())


def merge_loras(handle: Handle, head: Any) -> tuple[str, ...]:
    """Put LoRAs that are active in a private copy into its weights where that is exact, and activate the rest.

    It is where a LoRA's weight is the same for every input, and nothing that is left looks at the module that it changes.

    Args:
        handle: The handle of the copy.
        head: The head in use, as with `Handle.activate`.

    Returns:
        The names of those LoRAs.
    """
    plan, composition = handle.runtime.plan, handle.active
    if plan is None or plan.injected or composition is None:
        return ()
    chosen = heads_in_use(composition, head, handle.head_labels, handle.head_for)
    children: list[Composition] = list(composition.children) if isinstance(composition, Stack) else [composition]
    merged = [
        n
        for n, child in enumerate(children)
        if not _seen(handle, child, children[:n] + children[n + 1 :]) and _merge(handle, child)
    ]
    if not merged:
        return ()
    left = [child for n, child in enumerate(children) if n not in merged]
    heads: Any = chosen.names if isinstance(chosen, SeveralHeads) else chosen
    handle.activate(Stack(*left) if len(left) > 1 else left[0] if left else None, head=heads)
    return tuple(dict.fromkeys(name for n in merged for name in names_in(children[n])))


def _seen(handle: Handle, child: Composition, others: list[Composition]) -> bool:
    """Whether another part of a Stack looks at the weight or at the output of a module that a LoRA would change."""
    changed = {place for name in names_in(child) for place in handle.adapter_modules(name)}
    for other in others:
        for name in names_in(other):
            for place, module in handle.adapter_modules(name).items():
                blind = module.banked and module.reads == "input" and not module.also_reads
                if place in changed and (fusions_in(other) or not blind):
                    return True
    return False


def _merge(handle: Handle, composition: Composition) -> bool:
    """Give the base new weights with a composition in them; false, and nothing changed, where no weights compute the same."""
    try:
        changes = changes_of(handle, composition)
    except (AttachError, CompositionError, ConfigError):
        return False
    for change in changes:
        module = handle.model.get_submodule(change.path)
        module.weight = nn.Parameter(
            change.merged(), requires_grad=False
        )  # a new tensor: the old one is the model's own
    return bool(changes)


@torch.no_grad()
def make_constants(handle: Handle, inputs: dict[str, Tensor]) -> None:
    """Fold the fusions of a private copy, and fill every cache of what is made of weights alone."""
    handle.fold()
    handle.model(**inputs)
